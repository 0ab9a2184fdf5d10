"""All that this plugin knows of Hermes's internals. Written against hermes-agent 0.19.0; nothing else reads a private name.

Every name is looked up, never assumed. What is needed for a message to be routed at all is in `missing`; what is
only nice to know degrades to "unknown".
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from .marks import TAKEN, mark_of

log = logging.getLogger("busy_router")

_RUNNER_NEEDS = (
    "_handle_active_session_busy_message",
    "_queue_or_replace_pending_event",
    "_running_agents",
    "_adapter_for_source",
    "_session_key_for_source",
    "_is_user_authorized",
)
_ADAPTER_NEEDS = (
    "handle_message",
    "set_busy_session_handler",
    "_busy_session_handler",
    "_active_sessions",
    "_pending_messages",
    "_send_with_retry",
)


def missing(runner: Any, adapter: Any) -> list[str]:
    """The names without which messages of this adapter cannot be routed. Not empty: leave everything as it is."""
    lacking = [f"GatewayRunner.{name}" for name in _RUNNER_NEEDS if not hasattr(runner, name)]
    lacking += [f"adapter.{name}" for name in _ADAPTER_NEEDS if not hasattr(adapter, name)]
    return lacking


def looks_like_runner(thing: Any) -> bool:
    return thing is not None and hasattr(thing, "_running_agents") and hasattr(thing, "_handle_active_session_busy_message")


def live_runner() -> Any:
    """The gateway of this process, if there is one and Hermes says where."""
    module = sys.modules.get("gateway.run")
    ref = getattr(module, "_gateway_runner_ref", None)
    return ref() if callable(ref) else None


def adapters(runner: Any) -> Iterator[Any]:
    seen: set[int] = set()
    profiles = getattr(runner, "_profile_adapters", None) or {}
    for group in [getattr(runner, "adapters", None) or {}, *profiles.values()]:
        for adapter in list(getattr(group, "values", list)()):
            if id(adapter) not in seen:
                seen.add(id(adapter))
                yield adapter


# --- the run ---------------------------------------------------------------------------------------------------------


def running_agent(runner: Any, key: str) -> Any:
    """The agent that runs for this session; None while it is being set up, and when there is none."""
    agent = (getattr(runner, "_running_agents", None) or {}).get(key)
    return agent if hasattr(agent, "get_activity_summary") else None


def in_running_agents(runner: Any, key: str) -> bool:
    return key in (getattr(runner, "_running_agents", None) or {})


def is_busy(runner: Any, adapter: Any, key: str) -> bool:
    """Whether Hermes would treat a message for this session as busy. An owner task that has ended does not count:
    Hermes heals that lock on the next message."""
    if in_running_agents(runner, key):
        return True
    if key not in (getattr(adapter, "_active_sessions", None) or {}):
        return False
    stale = getattr(adapter, "_session_task_is_stale", None)
    return not (callable(stale) and stale(key))


def run_has_ended(runner: Any, adapter: Any, key: str) -> bool:
    """The session is busy, but its run is over and only its answer is on the way. Hermes writes the run's number on the
    adapter's guard when the run begins: without that, it has yet to begin."""
    guard = (getattr(adapter, "_active_sessions", None) or {}).get(key)
    return not in_running_agents(runner, key) and getattr(guard, "_hermes_run_generation", None) is not None


def turn_id(runner: Any, key: str) -> str | None:
    value = getattr(running_agent(runner, key), "_current_turn_id", None)
    return value if isinstance(value, str) and value else None


def is_draining(runner: Any) -> bool:
    """The gateway is going down. An external drain is not meant: there the runs go on to their end."""
    return getattr(runner, "_draining", False) is True


def activity(agent: Any) -> dict[str, Any]:
    try:
        summary = agent.get_activity_summary()
    except Exception:
        return {}
    return summary if isinstance(summary, dict) else {}


def is_hung(runner: Any, key: str) -> bool:
    """Hermes evicts such a run when the next message comes through; that must stay possible."""
    agent = running_agent(runner, key)
    if agent is None:
        return False
    try:
        limit = float(os.environ.get("HERMES_AGENT_TIMEOUT", "1800"))
        return 0 < limit <= float(activity(agent).get("seconds_since_activity", 0))
    except (TypeError, ValueError):
        return False


def subagents(agent: Any) -> int:
    children = getattr(agent, "_active_children", None)
    return len(children) if isinstance(children, list | tuple | set) else 0


def elapsed_ms(runner: Any, key: str) -> int | None:
    started = (getattr(runner, "_running_agents_ts", None) or {}).get(key)
    if not isinstance(started, int | float) or not started:
        return None
    return max(0, int((time.time() - started) * 1000))


async def is_compacting(runner: Any, key: str) -> bool:
    check = getattr(runner, "_session_has_compression_in_flight", None)
    if check is None:
        return False
    try:
        return bool(await check(key))
    except Exception:
        return False


def default_action(runner: Any, source: Any) -> str | None:
    """What Hermes does by itself with a busy message, as far as the router has a word for it."""
    mode = getattr(runner, "_busy_input_mode", None)
    effective = getattr(runner, "_effective_busy_input_mode", None)  # after 0.19 the mode depends on the source
    if callable(effective):
        try:
            mode = effective(source)
        except Exception:
            log.debug("busy-router: the effective busy mode could not be read", exc_info=True)
    if mode == "interrupt" and getattr(runner, "_busy_text_mode", "interrupt") == "queue":
        mode = "queue"  # the legacy setting
    return mode if mode in ("interrupt", "queue", "steer") else None


# --- what waits for the user -----------------------------------------------------------------------------------------


def pending_approval(key: str) -> str | None:
    """The command that waits for an approval; an empty string where it is not known."""
    try:
        from tools import approval

        if not approval.has_blocking_approval(key):
            return None
    except Exception:
        return None
    try:
        data = approval._gateway_queues[key][0].data
        words = [str(data.get(part)) for part in ("description", "command") if data.get(part)]
        return ": ".join(words)
    except Exception:
        return ""


def pending_answer(runner: Any, key: str) -> str | None:
    """The question that the agent, a confirmation or an update waits on; an empty string where it is not known."""
    try:
        from tools import clarify_gateway

        entry = clarify_gateway.get_pending_for_session(key, include_choice_prompts=True)
        if entry is not None:
            choices = " / ".join(str(choice) for choice in entry.choices or [])
            return f"{entry.question} ({choices})" if choices else str(entry.question)
    except Exception:
        log.debug("busy-router: pending questions could not be read", exc_info=True)
    try:
        from tools import slash_confirm

        if slash_confirm.get_pending(key):
            return ""
    except Exception:
        log.debug("busy-router: pending confirmations could not be read", exc_info=True)
    return "" if (getattr(runner, "_update_prompt_pending", None) or {}).get(key) else None


def give_up_question(key: str) -> None:
    """Let an agent that blocks on a question go on. An interrupt alone would reach it only when the question times out."""
    try:
        from tools import clarify_gateway

        clarify_gateway.clear_session(key)
    except Exception:
        log.debug("busy-router: pending questions could not be cleared", exc_info=True)


# --- commands --------------------------------------------------------------------------------------------------------


def registered_command(event: Any) -> str | None:
    """The canonical name if this is a command that Hermes dispatches itself."""
    name = event.get_command()
    return resolve_command(name) if name else None


def resolve_command(name: str) -> str | None:
    try:
        from hermes_cli.commands import resolve_command as resolve

        found = resolve(name)
    except Exception:
        return None
    return str(found.name) if found is not None else None


def plugin_command_handler(name: str) -> Any:
    try:
        from hermes_cli.plugins import get_plugin_command_handler

        return get_plugin_command_handler(name.replace("_", "-"))
    except Exception:
        return None


def may_run(runner: Any, source: Any, command: str) -> bool:
    """Whether this sender may run this command now."""
    if not is_authorized(runner, source):
        return False
    check = getattr(runner, "_check_slash_access", None)
    return check is None or check(source, command) is None


def is_authorized(runner: Any, source: Any) -> bool:
    try:
        return bool(runner._is_user_authorized(source))
    except Exception:
        return False


# --- the queue -------------------------------------------------------------------------------------------------------


def queued(runner: Any, adapter: Any, key: str) -> list[Any]:
    """What Hermes keeps for the next turns, in order. A copy."""
    head = (getattr(adapter, "_pending_messages", None) or {}).get(key)
    rest = (getattr(runner, "_queued_events", None) or {}).get(key) or []
    return ([head] if head is not None else []) + list(rest)


def take_queue(runner: Any, adapter: Any, key: str) -> list[Any]:
    """Empties the queue and returns it. Synchronous, so that no turn can begin in between."""
    events = queued(runner, adapter, key)
    adapter._pending_messages.pop(key, None)
    (getattr(runner, "_queued_events", None) or {}).pop(key, None)
    return events


def put_queue(runner: Any, adapter: Any, key: str, events: list[Any]) -> None:
    """Puts these events into an empty queue, in order."""
    if not events:
        return
    adapter._pending_messages[key] = events[0]
    if len(events) > 1:
        overflow = getattr(runner, "_queued_events", None)
        if overflow is None:
            overflow = runner._queued_events = {}
        overflow[key] = list(events[1:])


class _Slots(dict[str, Any]):
    """The heads of the queues, of which none is lost.

    When Hermes has run three queued turns in a row it puts the fourth back into the slot where the fifth already waits, and
    that one is gone; `/steer` to a starting agent does the same. A displaced message goes back to the front of the queue.
    This holds for what the plugin queued; between messages that it never saw, Hermes is left as it is.
    """

    def __init__(self, runner: Any, slots: dict[str, Any]) -> None:
        super().__init__(slots)
        self._runner = runner

    def __setitem__(self, key: str, event: Any) -> None:
        displaced = self.get(key)
        super().__setitem__(key, event)
        if displaced is None or displaced is event or TAKEN not in (mark_of(displaced), mark_of(event)):
            return
        overflow = getattr(self._runner, "_queued_events", None)
        if isinstance(overflow, dict):
            overflow.setdefault(key, []).insert(0, displaced)


def keep_displaced(runner: Any, adapter: Any) -> None:
    if type(getattr(adapter, "_pending_messages", None)) is dict:
        adapter._pending_messages = _Slots(runner, adapter._pending_messages)


def drop_overflow(runner: Any, key: str) -> int:
    """Drops what is queued behind the first message; that one Hermes drops itself. Returns how many."""
    return len((getattr(runner, "_queued_events", None) or {}).pop(key, None) or [])


def has_media(event: Any) -> bool:
    return bool(getattr(event, "media_urls", None)) or kind_of(event) == "photo"


def kind_of(event: Any) -> str:
    """Hermes's message type as a word: text, photo, voice, ..."""
    kind = getattr(event, "message_type", None)
    return str(getattr(kind, "value", kind) or "text")


# --- speaking --------------------------------------------------------------------------------------------------------


def acks_enabled() -> bool:
    """Hermes's own switch, `display.busy_ack_enabled`, which it keeps in the environment."""
    return os.environ.get("HERMES_GATEWAY_BUSY_ACK_ENABLED", "true").lower() == "true"


async def say(runner: Any, adapter: Any, event: Any, text: str) -> None:
    """Sends a line to where the message came from, anchored as Hermes anchors its own acknowledgements."""
    source = event.source
    anchor_of = getattr(runner, "_reply_anchor_for_event", None)
    anchor = anchor_of(event) if callable(anchor_of) else getattr(event, "message_id", None)
    metadata_of = getattr(runner, "_thread_metadata_for_source", None)
    metadata = metadata_of(source, anchor) if callable(metadata_of) else None
    try:
        await adapter._send_with_retry(chat_id=source.chat_id, content=text, reply_to=anchor, metadata=metadata)
    except Exception:
        log.warning("busy-router: an acknowledgement could not be sent", exc_info=True)
