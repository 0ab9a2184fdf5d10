"""What the agent is doing, as Hermes's observer hooks tell it: the last messages, the tool that runs, whose run it is.

The hooks run on the agent's threads, the questions come from the gateway's loop: everything is behind one lock.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_MAX_SESSIONS = 512
_MAX_CHARS = 400
_EACH_ROLE = 2


@dataclass
class Turn:
    history: list[dict[str, str]] = field(default_factory=list)
    tools: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Tools under way: call id -> (name, preview)."""

    def preview_of(self, tool: str) -> str | None:
        """`tool` is what Hermes names as current: one name, or several joined by commas."""
        names = {name.strip() for name in tool.split(",")}
        previews = [preview for name, preview in self.tools.values() if name in names and preview]
        return "; ".join(previews)[:_MAX_CHARS] or None


class Observer:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: OrderedDict[str, Turn] = OrderedDict()

    def turn(self, session_id: str | None) -> Turn:
        """A copy of what is known of this session's turn."""
        with self._lock:
            known = self._turns.get(session_id or "")
            return Turn(list(known.history), dict(known.tools)) if known else Turn()

    def turn_started(self, session_id: str, conversation: Sequence[Mapping[str, Any]]) -> None:
        with self._lock:
            entry = self._entry(session_id)
            entry.history = recent(conversation)
            entry.tools.clear()

    def tool_started(self, session_id: str, call_id: str, name: str, args: Any) -> None:
        with self._lock:
            self._entry(session_id).tools[call_id or name] = (name, _preview(name, args))

    def tool_ended(self, session_id: str, call_id: str, name: str) -> None:
        with self._lock:
            self._entry(session_id).tools.pop(call_id or name, None)

    def _entry(self, session_id: str) -> Turn:
        entry = self._turns.setdefault(session_id, Turn())
        self._turns.move_to_end(session_id)
        while len(self._turns) > _MAX_SESSIONS:
            self._turns.popitem(last=False)
        return entry


def recent(conversation: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The last messages of each side, oldest first, cut to what the router reads."""
    kept: list[dict[str, str]] = []
    left = {"user": _EACH_ROLE, "assistant": _EACH_ROLE}
    for message in reversed(conversation):
        role = message.get("role")
        text = plain_text(message.get("content"))
        if role in left and left[role] and text:
            left[role] -= 1
            kept.append({"role": str(role), "text": text[:_MAX_CHARS]})
    return kept[::-1]


def plain_text(content: Any) -> str:
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content.strip() if isinstance(content, str) else ""


def _preview(name: str, args: Any) -> str:
    if not args:
        return ""
    try:
        from agent.display import build_tool_preview  # redacts credentials; ours would not

        return str(build_tool_preview(name, args, _MAX_CHARS) or "")[:_MAX_CHARS]
    except Exception:
        # Without Hermes's redaction only the argument's names are safe to pass on.
        return json.dumps(sorted(args))[:_MAX_CHARS] if isinstance(args, Mapping) else ""


class Owners:
    """Who started the run of a session. In a session that several people share, that is not always who speaks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: OrderedDict[str, str] = OrderedDict()
        self._waiting: dict[str, list[tuple[str, str]]] = {}

    def started(self, key: str, sender: str | None) -> None:
        with self._lock:
            self._set(key, sender)
            self._waiting.pop(key, None)

    def queued(self, key: str, sender: str | None, text: str) -> None:
        """A message that will become a turn of its own, whose owner is then its sender."""
        if sender:
            with self._lock:
                self._waiting.setdefault(key, []).append((sender, text.strip()))
                del self._waiting[key][:-32]

    def turn_started(self, key: str, user_message: str) -> None:
        """Hermes says only the text of a queued message when its turn begins, in shared sessions after the name."""
        with self._lock:
            waiting = self._waiting.get(key) or []
            for index, (sender, text) in enumerate(waiting):
                if text and (user_message.strip() == text or user_message.strip().endswith(f"] {text}")):
                    self._set(key, sender)
                    del waiting[: index + 1]
                    return

    def of(self, key: str) -> str | None:
        with self._lock:
            return self._owner.get(key)

    def _set(self, key: str, sender: str | None) -> None:
        self._owner.pop(key, None)
        if sender:
            self._owner[key] = sender
        while len(self._owner) > _MAX_SESSIONS:
            self._owner.popitem(last=False)
