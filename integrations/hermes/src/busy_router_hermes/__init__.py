"""Hermes Agent asks busy-router what to do with a message that arrives while the agent is busy.

A message walks through here like this:

- `install`: Hermes hands it over, from an adapter's busy handler (path 1) or the dispatch hook (path 2);
- `intake`: it waits its turn, is asked about, and what comes back is checked against the state of that moment;
- `request`, `observer`, `hermes`: what the router is told, and where that is known from;
- `client`, `protocol`: the call, its time limit and breaker, and the answer;
- `actions`, `stock`, `steering`, `completion`: the decision carried out by Hermes's own handlers.

Without the router's address nothing of this exists: `register` returns at once, and Hermes is as without the plugin.
"""

from __future__ import annotations

import logging
from typing import Any

from .settings import Settings, SettingsError, load_from_hermes

__version__ = "0.1.0"
__all__ = ["register"]

log = logging.getLogger("busy_router")


def register(ctx: Any) -> None:
    """Hermes calls this once, at start, in every process that loads plugins."""
    try:
        settings = load_from_hermes()
    except SettingsError as error:
        log.error("busy-router: disabled, Hermes works as without it: %s", error)
        return
    if not settings.active:
        log.info("busy-router: no address, or disabled: Hermes works as without it")
        return
    connect(ctx, settings)


def connect(ctx: Any, settings: Settings) -> None:
    """Puts the parts together and hooks them into Hermes."""
    from .actions import Actions
    from .client import RouterClient
    from .completion import Completions
    from .install import Hooks
    from .intake import Intake
    from .observer import Observer, Owners
    from .steering import Steering

    client = RouterClient(settings)
    observer, owners, steering = Observer(), Owners(), Steering()
    actions = Actions(owners, steering, Completions(client) if settings.completions else None)
    intake = Intake(settings, client, actions, observer, owners)
    Hooks(settings, intake, observer, owners, steering, actions.requeue_soon).register(ctx)
    log.info("busy-router: asking %s", settings.url)
