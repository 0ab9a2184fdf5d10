"""The operator's settings: the plugin's own section of Hermes's `config.yaml`, and the environment on top.

```yaml
plugins:
  enabled: [busy-router]
  entries:
    busy-router:
      url: http://127.0.0.1:8710
```

Each key can be given as `HERMES_BUSY_ROUTER_<KEY>` too; the environment wins. The prefix is not `BUSY_ROUTER_`, because
that one belongs to the service, which warns of names it does not know.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger("busy_router")

PLUGIN_NAME = "busy-router"
ENV_PREFIX = "HERMES_BUSY_ROUTER_"

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class SettingsError(ValueError):
    """A setting that cannot be meant; the message says which one and how to mend it."""


@dataclass(frozen=True)
class Settings:
    """What the operator may set. Unset means: the plugin does nothing at all."""

    enabled: bool = True
    url: str = ""
    """The router's address: `http://host:port`, or `unix:/path/to/socket`. Empty: the plugin hooks nothing."""
    token: str = field(default="", repr=False)
    """A token of scope `route`; empty where the router asks for none."""
    token_file: str = ""
    """A file that holds the token, instead of `token`."""
    timeout_ms: int = 2000
    """How long a message may wait for the router, in milliseconds, connecting included."""
    breaker_open_s: float = 10.0
    """How long the router is left alone after it could not be reached, in seconds."""
    send_history: bool = True
    """Whether the last two messages of each side go with the question."""
    stop_clears_queue: bool = True
    """Whether `/stop` also drops what is queued behind the first message (Hermes drops only the first)."""
    completions: bool = False
    """Whether the router is asked where the result of a background task goes (`/v1/tasks/completion`)."""

    @property
    def active(self) -> bool:
        return self.enabled and bool(self.url)

    @property
    def timeout_s(self) -> float:
        return self.timeout_ms / 1000


def load(section: Mapping[str, Any] | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the plugin's section and the environment. Raises SettingsError with the key's name."""
    env = os.environ if environ is None else environ
    given: dict[str, Any] = dict(section or {})
    known = {f.name: f for f in fields(Settings)}
    for key in sorted(set(given) - set(known) - {"llm", "allow_tool_override"}):  # those two are Hermes's own
        log.warning("busy-router: unknown setting plugins.entries.%s.%s is ignored", PLUGIN_NAME, key)
    values: dict[str, Any] = {}
    for name, spec in known.items():
        raw = env.get(ENV_PREFIX + name.upper(), given.get(name))
        if raw is not None:
            values[name] = _parse(name, raw, spec.default)
    settings = Settings(**values)
    if settings.token_file and not settings.token:
        settings = _replace(settings, token=_read_token(settings.token_file))
    _check(settings)
    return settings


def load_from_hermes() -> Settings:
    """Settings as Hermes sees them. A config that cannot be read leaves the environment."""
    section: Any = None
    try:
        from hermes_cli.config import load_config

        plugins = (load_config() or {}).get("plugins") or {}
        section = (plugins.get("entries") or {}).get(PLUGIN_NAME)
    except Exception:
        log.warning("busy-router: Hermes's config could not be read; using the environment only", exc_info=True)
    if section is not None and not isinstance(section, Mapping):
        raise SettingsError(f"plugins.entries.{PLUGIN_NAME} must be a mapping, for example {{url: http://127.0.0.1:8710}}")
    return load(section)


def _parse(name: str, raw: Any, default: Any) -> Any:
    where = f"plugins.entries.{PLUGIN_NAME}.{name} (or {ENV_PREFIX}{name.upper()})"
    if isinstance(default, bool):
        word = str(raw).strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise SettingsError(f"{where} must be true or false, not {raw!r}")
    if isinstance(default, int | float):
        try:
            return type(default)(raw)
        except (TypeError, ValueError):
            raise SettingsError(f"{where} must be a number, not {raw!r}") from None
    if not isinstance(raw, str):
        raise SettingsError(f"{where} must be text")
    return raw.strip()


def _check(settings: Settings) -> None:
    if settings.timeout_ms < 50:
        raise SettingsError("timeout_ms must be at least 50")
    if settings.breaker_open_s < 0:
        raise SettingsError("breaker_open_s must not be negative")
    if not settings.url:
        return
    parts = urlsplit(settings.url)
    if parts.scheme in ("http", "https") and parts.hostname:
        return
    if parts.scheme == "unix" and parts.path:
        return
    raise SettingsError(f"url must be http://host:port or unix:/path, not {settings.url!r}")


def _read_token(path: str) -> str:
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        raise SettingsError(f"token_file cannot be read: {error}") from None


def _replace(settings: Settings, **changes: Any) -> Settings:
    from dataclasses import replace

    return replace(settings, **changes)
