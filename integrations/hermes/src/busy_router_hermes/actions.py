"""Carrying out a decision. One function an action; each settles the message or raises before it has done anything."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
from dataclasses import dataclass, field
from typing import Any

from . import hermes, stock
from .completion import Completions
from .marks import NEXT_TURN, STOCK, TAKEN, mark
from .observer import Owners
from .protocol import Decision
from .steering import Steered, Steering

log = logging.getLogger("busy_router")

_HAND_OVER_LIMIT_S = 3.0


@dataclass(eq=False)
class Taken:
    """A message that the plugin took from Hermes and owes it until it is settled."""

    runner: Any
    adapter: Any
    event: Any
    key: str
    sender: str | None = None
    settled: bool = False
    turn_id: str | None = None
    """The turn that the router was asked about."""

    def __post_init__(self) -> None:
        self.sender = getattr(self.event.source, "user_id", None)
        mark(self.event, TAKEN)

    def settle(self) -> None:
        self.settled = True

    @property
    def busy(self) -> bool:
        return hermes.is_busy(self.runner, self.adapter, self.key)


@dataclass
class Actions:
    owners: Owners
    steering: Steering
    completions: Completions | None = None
    acks: stock.Acks = field(default_factory=stock.Acks)

    async def hand_back(self, taken: Taken, word: str = STOCK) -> None:
        """Gives the message to Hermes as if it had arrived now: a turn of its own if the run has ended, else the stock
        busy handler and what follows it. The mark keeps the plugin from taking it again."""
        if taken.settled:
            return
        taken.settle()
        await self._hand_over(taken, word)

    async def hand_over_kept(self, taken: Taken) -> None:
        """The same for a message that was settled by keeping it until the run had ended."""
        await self._hand_over(taken, NEXT_TURN)

    async def _hand_over(self, taken: Taken, word: str) -> None:
        mark(taken.event, word)
        handing = asyncio.ensure_future(taken.adapter.handle_message(taken.event))
        try:
            await asyncio.shield(handing)
        except asyncio.CancelledError:
            # A shutdown ends this task, but not in the middle of giving the message back.
            await asyncio.wait({handing}, timeout=_HAND_OVER_LIMIT_S)
            raise

    async def queue_after_all(self, runner: Any, adapter: Any, event: Any, key: str) -> bool:
        """The message was to begin a turn, and another one was quicker."""
        mark(event, STOCK)
        view = stock.OwnWordsView(runner, adapter, key, "queue", None, self.acks, lambda: None)
        return await stock.handle(view, event, key)

    async def acknowledge(self, taken: Taken, decision: Decision) -> None:
        await self._say(taken, decision.ack)

    async def apply(self, taken: Taken, decision: Decision) -> None:
        """`taken` is busy, and the decision is one that acts."""
        match decision.action:
            case "ignore":
                taken.settle()
                await self._say(taken, decision.ack)
            case "interrupt":
                await self._interrupt(taken, decision)
            case "queue":
                await self._stock(taken, "queue", decision.ack)
            case "steer":
                await self._steer(taken, decision)
            case "background":
                await self._background(taken, decision)
            case _:
                # Not declared, so not to be expected: nothing is guessed.
                log.warning("busy-router: the router answered %r, which Hermes cannot do", decision.action)
                await self.hand_back(taken)

    async def keep_approval(self, taken: Taken) -> None:
        """A reply to a pending approval: Hermes's bare words answer it. Anything else is queued, where stock would
        interrupt and so refuse what the user has not refused."""
        await self._stock(taken, "queue", None, own_words=True)

    async def _interrupt(self, taken: Taken, decision: Decision) -> None:
        if not self._same_turn(taken) and decision.rule != "stop_phrase":
            # What was to be interrupted has ended, and another turn, the next in the queue, runs instead.
            await self._stock(taken, "queue", None, own_words=True)
            return
        agent = hermes.running_agent(taken.runner, taken.key)
        question = hermes.pending_answer(taken.runner, taken.key) is not None
        untaken = self.steering.take_back(agent, hermes.turn_id(taken.runner, taken.key)) if agent is not None else []
        try:
            done = await self._stock(taken, "interrupt", decision.ack)
        finally:
            for steered in untaken:
                self._requeue(steered)
        if done != "interrupt":
            return
        if agent is None:
            self._interrupt_once_started(taken)
        elif question:
            hermes.give_up_question(taken.key)

    def _interrupt_once_started(self, taken: Taken) -> None:
        """The agent is being set up: there is nothing to interrupt yet. The adapter's own flag makes Hermes do it as soon
        as there is (its monitor looks five times a second)."""
        flag = taken.adapter._active_sessions.get(taken.key)
        if flag is not None and hasattr(flag, "set"):
            flag.set()

    async def _steer(self, taken: Taken, decision: Decision) -> None:
        if not self._same_turn(taken):
            await self._stock(taken, "queue", None, own_words=True)
            return
        agent = hermes.running_agent(taken.runner, taken.key)
        turn = hermes.turn_id(taken.runner, taken.key)
        text = (taken.event.text or "").strip()
        steered = Steered(agent, turn, taken.key, taken.event, text, taken.runner, taken.adapter)
        # Noted before, because the turn can end while the acknowledgement is being sent.
        self.steering.note(steered)
        if await self._stock(taken, "steer", decision.ack) != "steer":
            self.steering.forget(steered)

    async def _background(self, taken: Taken, decision: Decision) -> None:
        runner, event = taken.runner, taken.event
        prompt = (event.text or "").strip()
        if not prompt or not hermes.may_run(runner, event.source, "background"):
            await self._stock(taken, "queue", None, own_words=True)
            return
        command = copy.copy(event)
        command.text = f"/background {prompt}"
        # Hermes's parser turns typographic dashes of an argument into options; this is prose.
        command.get_command_args = lambda: prompt
        if self.completions is not None:
            reply = await self.completions.background_command(runner, taken.adapter, taken.key, command, taken.settle)
        else:
            reply = await runner._handle_background_command(command)
        taken.settle()
        unwrap = getattr(taken.adapter, "_unwrap_ephemeral", None)
        text = unwrap(reply)[0] if callable(unwrap) else reply
        await self._say(taken, decision.ack or text)

    async def dispatch(self, taken: Taken, decision: Decision) -> bool:
        """Runs the command through Hermes's own handler. False: Hermes has no such command while a run is under way."""
        command = decision.command
        if command is None:
            return False
        if hermes.resolve_command(command.name) is not None:
            event = copy.copy(taken.event)
            event.text = command.text
            taken.event = event
            await self.hand_back(taken)
            return True
        handler = hermes.plugin_command_handler(command.name)
        if handler is None or not hermes.may_run(taken.runner, taken.event.source, command.name):
            return False
        taken.settle()
        reply = handler(command.args)
        if inspect.isawaitable(reply):
            reply = await reply
        if reply:
            await hermes.say(taken.runner, taken.adapter, taken.event, str(reply))
        return True

    async def _stock(self, taken: Taken, mode: str, ack: str | None, own_words: bool = False) -> str | None:
        """What Hermes did: interrupt, queue, steer or dropped; None where it handled the message in a way of its own.
        With `own_words` it speaks for itself, because the router's text would not be true."""

        def stored() -> None:
            taken.settle()
            self.owners.queued(taken.key, taken.sender, taken.event.text or "")

        kind = stock.OwnWordsView if own_words else stock.RunnerView
        view = kind(taken.runner, taken.adapter, taken.key, mode, ack, self.acks, stored)
        handled = await stock.handle(view, taken.event, taken.key)
        if not handled:
            await self.hand_back(taken)
            return None
        taken.settle()
        return view.outcome.done(mode)

    def requeue_soon(self, loop: Any, steered: list[Steered]) -> None:
        """From an agent's thread. Runs on the loop before the turn's result is looked at, because it is scheduled first."""
        for one in steered:
            loop.call_soon_threadsafe(self._requeue, one)

    def _requeue(self, steered: Steered) -> None:
        self.owners.queued(steered.key, getattr(steered.event.source, "user_id", None), steered.text)
        hermes.keep_displaced(steered.runner, steered.adapter)
        steered.runner._queue_or_replace_pending_event(steered.key, steered.event)
        log.info("busy-router: the turn ended before it took a steered message; queued it in %s", steered.key)

    def _same_turn(self, taken: Taken) -> bool:
        now = hermes.turn_id(taken.runner, taken.key)
        # No id: the agent was, or is, being set up, and set-up belongs to the run that follows it.
        return taken.turn_id is None or now is None or now == taken.turn_id

    async def _say(self, taken: Taken, text: str | None) -> None:
        if text and hermes.acks_enabled():
            await hermes.say(taken.runner, taken.adapter, taken.event, text)
