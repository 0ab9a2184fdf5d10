"""What happened, in order, and a way to wait for it instead of sleeping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_S = 60.0
"""For whatever is sure to happen. Waiting ends when it does, so that a slow machine costs patience and a fast one nothing."""


@dataclass(frozen=True)
class Entry:
    index: int
    at: float
    who: str
    what: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.at:7.2f}s {self.who:<7} {self.what:<9} {self.text}"


class Timeline:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[Entry] = []
        self._start = time.monotonic()

    def add(self, who: str, what: str, text: str = "", **data: Any) -> Entry:
        with self._changed:
            entry = Entry(len(self._entries), time.monotonic() - self._start, who, what, text, data)
            self._entries.append(entry)
            self._changed.notify_all()
            return entry

    def entries(self, who: str | None = None, what: str | None = None, since: int = 0) -> list[Entry]:
        with self._changed:
            return [e for e in self._entries[since:] if (who is None or e.who == who) and (what is None or e.what == what)]

    def mark(self) -> int:
        """The present, to look or wait from."""
        with self._changed:
            return len(self._entries)

    def wait(self, matches: Callable[[Entry], bool], what: str, since: int = 0, timeout: float = TIMEOUT_S) -> Entry:
        deadline = time.monotonic() + timeout
        looked = since
        with self._changed:
            while True:
                for entry in self._entries[looked:]:
                    if matches(entry):
                        return entry
                looked = len(self._entries)
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        raise AssertionError(f"did not happen within {timeout:.0f} s: {what}\n{self.render(since)}")

    def render(self, since: int = 0) -> str:
        return "\n".join(str(entry) for entry in self.entries(since=since))
