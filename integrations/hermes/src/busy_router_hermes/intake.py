"""Messages on their way: taken from Hermes, decided one at a time a session in order of arrival, and always given back.

Hermes awaits its busy handler inside the platform's receive loop, so nothing here waits in it: `take` starts a task and
returns. What was taken is owed: it is applied, dispatched, or handed back, also when the router, Hermes or this code fails.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from . import hermes, request
from .actions import Actions, Taken
from .client import RouterClient, RouterUnavailable
from .marks import NEXT_TURN, mark_of
from .observer import Observer, Owners
from .protocol import Decision
from .settings import Settings

log = logging.getLogger("busy_router")

_POLL_S = 0.1
_EDGE_POLL_S = 0.03
_EDGE_LIMIT_S = 1.5
_HAND_BACK_LIMIT_S = 4.0


@dataclass
class Session:
    """What the plugin holds for one session; forgotten as soon as it holds nothing."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    undecided: int = 0
    after_run: list[Taken] = field(default_factory=list)
    """Queued messages that must go through Hermes's command handling, and what was queued after them."""
    pump: asyncio.Task[None] | None = None


class Intake:
    def __init__(self, settings: Settings, client: RouterClient, actions: Actions, observer: Observer, owners: Owners) -> None:
        self._settings = settings
        self._client = client
        self._actions = actions
        self._observer = observer
        self._owners = owners
        self._ids = request.MessageIds()
        self._sessions: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._applied: OrderedDict[str, None] = OrderedDict()
        self.router_decides = False
        """Whether the router's last answer was there, and in mode `on`. If not, Hermes is left as it is."""

    # --- taking ------------------------------------------------------------------------------------------------------

    def wants(self, runner: Any, event: Any, key: str) -> bool:
        """Whether this busy message is the router's to decide. Everything else is Hermes's, at once."""
        if mark_of(event) is not None or getattr(event, "internal", False):
            return False
        if hermes.is_draining(runner) or not hermes.is_authorized(runner, event.source):
            return False
        # With the router down, stock behaviour without any delay; but not past earlier messages that still wait.
        return not self._client.breaker.open or key in self._sessions

    def take(self, runner: Any, adapter: Any, event: Any, key: str) -> None:
        taken = Taken(runner, adapter, event, key)
        session = self._sessions.setdefault(key, Session())
        session.undecided += 1
        try:
            self.start(self._settle(taken, session), adapter)
        except BaseException:
            session.undecided -= 1
            raise

    def was_given_back_to_idle(self, event: Any) -> bool:
        return mark_of(event) == NEXT_TURN

    async def queue_after_all(self, runner: Any, adapter: Any, event: Any, key: str) -> bool:
        return await self._actions.queue_after_all(runner, adapter, event, key)

    async def _settle(self, taken: Taken, session: Session) -> None:
        try:
            async with session.lock:
                await self._decide_and_apply(taken, session)
        except asyncio.CancelledError:
            await self._return_in_time(taken)
            raise
        except Exception:
            log.exception("busy-router: deciding failed in %s; the message goes to Hermes", taken.key)
            await self._return_in_time(taken)
        finally:
            session.undecided -= 1
            self._forget_if_idle(taken.key)

    async def _return_in_time(self, taken: Taken) -> None:
        if taken.settled:
            return
        try:
            async with asyncio.timeout(_HAND_BACK_LIMIT_S):
                await self._actions.hand_back(taken)
        except Exception:
            log.exception("busy-router: Hermes did not take a message of %s back", taken.key)

    # --- deciding ----------------------------------------------------------------------------------------------------

    async def _decide_and_apply(self, taken: Taken, session: Session) -> None:
        if not taken.busy:
            await self._actions.hand_back(taken)
            return
        decision = await self._ask(taken, session)
        self.router_decides = decision is not None and decision.mode == "on"
        if decision is not None and decision.acts:
            await self._past_the_edges(taken)
        # The state may have changed during the answer: it is read again, and what is applied is true of it.
        if decision is None or hermes.is_draining(taken.runner):
            await self._actions.hand_back(taken)
        elif not decision.acts:
            await self._pass_through(taken, decision)
        elif not taken.busy:
            await self._actions.hand_back(taken, NEXT_TURN)
        elif decision.replayed and decision.decision_id in self._applied:
            log.info("busy-router: a redelivered message of %s was applied before", taken.key)
            taken.settle()
        else:
            self._remember(decision)
            await self._carry_out(taken, decision, session)

    async def _carry_out(self, taken: Taken, decision: Decision, session: Session) -> None:
        if decision.action == "dispatch" and await self._actions.dispatch(taken, decision):
            return
        if not self._waits_for_the_end(decision, session):
            await self._actions.apply(taken, decision)
            return
        taken.settle()
        session.after_run.append(taken)
        if session.pump is None:
            session.pump = self.start(self._pump(taken.key, session), taken.adapter)
        await self._actions.acknowledge(taken, decision)

    async def _past_the_edges(self, taken: Taken) -> None:
        """A session is busy for Hermes some moments before its run begins, and after its end until the answer is sent. What is
        to be applied then meets no run: a moment's patience tells whether there is one."""
        until = time.monotonic() + _EDGE_LIMIT_S
        while (
            taken.busy
            and not hermes.in_running_agents(taken.runner, taken.key)
            and not hermes.is_draining(taken.runner)
            and time.monotonic() < until
        ):
            await asyncio.sleep(_EDGE_POLL_S)

    async def _ask(self, taken: Taken, session: Session) -> Decision | None:
        """None: no usable answer, or the gateway goes down and will not wait for one."""
        started = time.monotonic()
        taken.turn_id = hermes.turn_id(taken.runner, taken.key)
        asking = asyncio.ensure_future(self._answer(taken, session))
        try:
            while not asking.done() and not hermes.is_draining(taken.runner):
                await asyncio.wait({asking}, timeout=_POLL_S)
            if not asking.done():
                return None
            decision = asking.result()
        except RouterUnavailable as error:
            log.warning("busy-router: stock behaviour for a message of %s: the router %s", taken.key, error)
            return None
        finally:
            asking.cancel()
        log.info(
            "busy-router: %s in %s (rule %s, by %s, mode %s, %d ms)",
            decision.would or decision.action, taken.key, decision.rule, decision.decided_by, decision.mode,
            round((time.monotonic() - started) * 1000),
        )  # fmt: skip
        return decision

    async def _answer(self, taken: Taken, session: Session) -> Decision:
        question = await request.build(
            runner=taken.runner,
            adapter=taken.adapter,
            event=taken.event,
            key=taken.key,
            observer=self._observer,
            owners=self._owners,
            ids=self._ids,
            waiting=len(session.after_run),
            send_history=self._settings.send_history,
        )
        return await self._client.decide(question)

    async def _pass_through(self, taken: Taken, decision: Decision) -> None:
        awaits_approval = hermes.pending_approval(taken.key) is not None
        if decision.mode == "on" and decision.rule == "pending_reply" and awaits_approval:
            await self._actions.keep_approval(taken)
        else:
            await self._actions.hand_back(taken)

    def _remember(self, decision: Decision) -> None:
        self._applied[decision.decision_id] = None
        while len(self._applied) > 1024:
            self._applied.popitem(last=False)

    # --- after the run -----------------------------------------------------------------------------------------------

    def _waits_for_the_end(self, decision: Decision, session: Session) -> bool:
        """Hermes gives what it has queued to the model as text. A command must not get there: it waits here for the end of
        the run, and then goes through Hermes's command handling. What is queued after it waits behind it."""
        if decision.action == "dispatch":
            return True  # a command that Hermes runs only between turns
        return decision.action == "queue" and (decision.command is not None or bool(session.after_run))

    async def _pump(self, key: str, session: Session) -> None:
        """Hands what waits for the end of the run to Hermes, one a time, in order."""
        try:
            while session.after_run:
                head = session.after_run[0]
                if hermes.is_busy(head.runner, head.adapter, key) and not hermes.is_draining(head.runner):
                    await asyncio.sleep(_POLL_S)
                    continue
                session.after_run.pop(0)
                await self._actions.hand_over_kept(head)
                # The hand-over has started a turn by now, if it was one; the next waits for that to end.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            for held in session.after_run:
                await self._hand_back_quietly(held)
            session.after_run.clear()
            raise
        finally:
            session.pump = None
            self._forget_if_idle(key)

    async def _hand_back_quietly(self, held: Taken) -> None:
        try:
            async with asyncio.timeout(_HAND_BACK_LIMIT_S):
                await self._actions.hand_over_kept(held)
        except Exception:
            log.exception("busy-router: Hermes did not take a message of %s back", held.key)

    def drop_after_run(self, key: str) -> int:
        """For `/stop` and `/new`: what was to run afterwards shall not. Returns how many."""
        session = self._sessions.get(key)
        if session is None:
            return 0
        dropped = len(session.after_run)
        session.after_run.clear()
        return dropped

    # --- tasks -------------------------------------------------------------------------------------------------------

    def start(self, work: Any, adapter: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Known to the adapter, so that a shutdown ends it, which hands the message back, and waits until that is done.
        background = getattr(adapter, "_background_tasks", None)
        if isinstance(background, set):
            background.add(task)
            task.add_done_callback(background.discard)
        return task

    def _forget_if_idle(self, key: str) -> None:
        session = self._sessions.get(key)
        if session is not None and not session.undecided and not session.after_run and session.pump is None:
            del self._sessions[key]
