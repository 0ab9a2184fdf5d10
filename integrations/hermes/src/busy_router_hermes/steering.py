"""A steered message that the turn never took becomes a turn of its own.

Hermes holds steering text until the next tool result. Where none comes it hands the text back as the next turn, but only
if nothing else is queued, and an interrupt throws it away. So the plugin remembers what it steered, and looks again
when the turn ends or is interrupted.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("busy_router")


@dataclass(frozen=True)
class Steered:
    agent: Any
    turn_id: str | None
    key: str
    event: Any
    text: str
    runner: Any
    adapter: Any


class Steering:
    """Called from the gateway's loop and from the agents' threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steered: list[Steered] = []

    def note(self, steered: Steered) -> None:
        with self._lock:
            self._steered.append(steered)
            del self._steered[:-64]

    def forget(self, steered: Steered) -> None:
        with self._lock:
            self._steered = [s for s in self._steered if s is not steered]

    def take_back(self, agent: Any, turn_id: str | None) -> list[Steered]:
        """What was steered into this turn and not taken, which the agent then no longer holds."""
        with self._lock:
            ours = [s for s in self._steered if s.agent is agent and s.turn_id == turn_id]
            if not ours:
                return []
            self._steered = [s for s in self._steered if s not in ours]
            drain = getattr(agent, "_drain_pending_steer", None)
            left = drain() if callable(drain) else None
            if not left:
                return []
            untaken = []
            for steered in ours:
                if steered.text in left:
                    left = left.replace(steered.text, "", 1)
                    untaken.append(steered)
            if left.strip():
                agent.steer("\n".join(line for line in left.splitlines() if line.strip()))  # what `/steer` put there
            return untaken

    def agent_of(self, turn_id: str) -> Any:
        with self._lock:
            return next((s.agent for s in self._steered if s.turn_id == turn_id), None)
