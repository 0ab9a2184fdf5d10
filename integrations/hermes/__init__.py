"""Entry for use as a plugin directory. As a package the entry point is `busy_router_hermes` itself.

Hermes imports this file under a name of its own (`hermes_plugins.busy_router`), so the package in `src/` is
imported relative to it; nothing is added to `sys.path`.
"""

from .src.busy_router_hermes import register

__all__ = ["register"]
