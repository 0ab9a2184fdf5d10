"""Running Hermes's own busy handler with the mode that the router decided.

`GatewayRunner._handle_active_session_busy_message` is called on a view of the runner: everything is the live runner
except the busy mode, the place in the queue of an interrupting message, and the text of the acknowledgement. So
authorisation, draining, approvals, demotions, limits and the switches for acknowledgements stay Hermes's own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from . import hermes
from .request import album_id

log = logging.getLogger("busy_router")

QUEUE_FULL = "⚠️ The queue is full: your message was not kept. Please send it again when the current task is done."


class Outcome:
    """What Hermes in fact did, which is not always what was asked for."""

    def __init__(self) -> None:
        self.reached = False
        """Hermes got as far as the busy mode: no refusal, no draining, no approval that this message answered."""
        self.stored = False
        self.dropped = False
        self.demoted = False

    def done(self, mode: str) -> str | None:
        """`interrupt`, `queue`, `steer`, `dropped`; None where Hermes handled the message in another way, and said so."""
        if not self.reached:
            return None
        if self.dropped:
            return "dropped"
        if mode == "steer":
            return "queue" if self.stored else "steer"
        return "queue" if self.demoted else mode


class RunnerView:
    """The live runner, but for the few names below."""

    outcome: Outcome
    _ack: str | None
    _mode: str

    def __init__(
        self,
        runner: Any,
        adapter: Any,
        key: str,
        mode: str,
        ack: str | None,
        acks: Acks,
        on_stored: Callable[[], None],
    ) -> None:
        fields = self.__dict__  # __setattr__ writes through to the runner
        fields["_runner"] = runner
        fields["_view_adapter"] = adapter
        fields["_mode"] = mode
        fields["_ack"] = ack
        fields["_on_stored"] = on_stored
        fields["_acks"] = acks
        fields["_key"] = key
        fields["outcome"] = Outcome()
        fields["_busy_ack_ts"] = _AckTimes(self)
        fields["_busy_text_mode"] = "interrupt"  # the legacy setting; "queue" there would end the handler early

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_runner"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_runner"], name, value)

    # The mode: an attribute in 0.19, methods after it.

    @property
    def _busy_input_mode(self) -> str:
        self.outcome.reached = True
        return self._mode

    def _effective_busy_input_mode(self, *_: Any, **__: Any) -> str:
        return self._busy_input_mode

    def _effective_busy_text_mode(self, *_: Any, **__: Any) -> str:
        return "interrupt"

    def _agent_has_active_subagents(self, agent: Any) -> bool:
        demotes = bool(self._runner._agent_has_active_subagents(agent))
        self.outcome.demoted |= demotes
        return demotes

    async def _session_has_compression_in_flight(self, key: str) -> bool:
        demotes = bool(await self._runner._session_has_compression_in_flight(key))
        self.outcome.demoted |= demotes
        return demotes

    def _queue_or_replace_pending_event(self, key: str, event: Any) -> None:
        """Stores the message, ahead of the others if it interrupts. No await in here: no turn can begin meanwhile."""
        runner, adapter = self._runner, self._view_adapter
        hermes.keep_displaced(runner, adapter)
        self.outcome.stored = True
        before = hermes.queued(runner, adapter, key)
        if self._mode == "interrupt" and not self.outcome.demoted and not _same_album(before, event):
            event._busy_router_ahead = True
            hermes.take_queue(runner, adapter, key)
            # Interrupting messages keep their order among themselves.
            ahead = 0
            while ahead < len(before) and getattr(before[ahead], "_busy_router_ahead", False):
                ahead += 1
            hermes.put_queue(runner, adapter, key, [*before[:ahead], event, *before[ahead:]])
        else:
            runner._queue_or_replace_pending_event(key, event)
            after = hermes.queued(runner, adapter, key)
            merges = bool(before) and (hermes.has_media(event) or hermes.has_media(before[0]))
            self.outcome.dropped = len(after) == len(before) and not merges
        self._on_stored()

    def _adapter_for_source(self, source: Any) -> Any:
        adapter = self._runner._adapter_for_source(source)
        return _AckAdapter(adapter, self) if adapter is not None else None

    @property
    def silent(self) -> bool:
        """Nothing is to be said of what was done."""
        return self._ack is None and self.outcome.done(self._mode) == self._mode

    def ack_for(self, stock_text: str) -> str | None:
        """The text to show in place of Hermes's; None for nothing. True of what was done, whatever was asked for."""
        done = self.outcome.done(self._mode)
        if done == "dropped":
            return QUEUE_FULL
        if done == self._mode:
            return self._ack
        # Hermes decided otherwise, to protect sub-agents or a compression, or because the turn took no steering: its own
        # words are the true ones.
        return stock_text if self._acks.due(self._key, f"{self._mode}->{done}") else None


class OwnWordsView(RunnerView):
    """For what the router did not decide, or decided about a turn that has ended since: Hermes's text is the true one."""

    @property
    def silent(self) -> bool:
        return False

    def ack_for(self, stock_text: str) -> str | None:
        done = self.outcome.done(self._mode)
        if done == "dropped":
            return QUEUE_FULL
        return stock_text if self._acks.due(self._key, str(done)) else None


class Acks:
    """At most one of Hermes's own texts for the same kind of event in a session within the cool-down."""

    def __init__(self, cooldown_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}

    def due(self, key: str, kind: str) -> bool:
        now = self._clock()
        self._last = {k: t for k, t in self._last.items() if now - t < self._cooldown_s}
        if (key, kind) in self._last:
            return False
        self._last[key, kind] = now
        return True


class _AckTimes(dict[str, float]):
    """Stands for Hermes's cool-down, which is one a session and so hides an interrupt behind a queue. The router has a
    cool-down of its own, one an action: that a message got an acknowledgement is decided there."""

    def __init__(self, view: RunnerView) -> None:
        super().__init__()
        self._view = view

    def get(self, key: str, default: Any = None) -> Any:
        # A time of now ends Hermes's handler before it composes a text that nobody will see.
        return time.time() if self._view.silent else 0.0


class _AckAdapter:
    """The live adapter, but that the acknowledgement of the busy handler carries the router's text."""

    def __init__(self, adapter: Any, view: RunnerView) -> None:
        self.__dict__.update(_adapter=adapter, _view=view)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_adapter"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_adapter"], name, value)

    async def _send_with_retry(self, *args: Any, **kwargs: Any) -> Any:
        # Before the mode is read, Hermes speaks of draining or of an approval: that is not ours to reword.
        if self._view.outcome.reached and "content" in kwargs:
            text = self._view.ack_for(kwargs["content"])
            if text is None:
                return None
            kwargs["content"] = text
        return await self._adapter._send_with_retry(*args, **kwargs)


def _same_album(queue: list[Any], event: Any) -> bool:
    """A further part of the picture series that waits already: Hermes merges it there."""
    album = album_id(event)
    return album is not None and bool(queue) and album_id(queue[0]) == album


async def handle(view: RunnerView, event: Any, key: str) -> bool:
    """Runs Hermes's busy handler. False: Hermes leaves this message to the adapter."""
    handler = type(view._runner)._handle_active_session_busy_message
    return bool(await handler(view, event, key))
