"""What the plugin writes on an event, so that it knows it again when Hermes brings it back."""

from __future__ import annotations

from typing import Any

_NAME = "_busy_router"

TAKEN = "taken"
"""The plugin has it, or queued it with Hermes."""
STOCK = "stock"
"""Given back: Hermes does with it what it does without the router."""
NEXT_TURN = "next-turn"
"""Given back because the run has ended. Should another one have begun meanwhile, the message queues."""


def mark(event: Any, word: str) -> None:
    setattr(event, _NAME, word)


def mark_of(event: Any) -> str | None:
    word = getattr(event, _NAME, None)
    return word if isinstance(word, str) else None
