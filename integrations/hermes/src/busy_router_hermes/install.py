"""Where the plugin meets Hermes: the hooks, and the busy handler of each adapter.

No function of Hermes is replaced but the one-line setter of the busy handler, and that one is called through. It is what
reaches adapters before the first message does: sessions that are resumed at start-up, and adapters made by a reconnect.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from . import hermes
from .intake import Intake
from .observer import Observer, Owners
from .settings import Settings
from .steering import Steering

log = logging.getLogger("busy_router")

_WRAPPED = "_busy_router_handler"
Handler = Callable[[Any, str], Awaitable[bool]]


class Hooks:
    """Every hook is safe to call: a failure is logged, and Hermes goes on as without the plugin."""

    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        observer: Observer,
        owners: Owners,
        steering: Steering,
        requeue: Callable[[Any, Any], None],
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._observer = observer
        self._owners = owners
        self._steering = steering
        self._requeue = requeue
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reported: set[str] = set()

    def register(self, ctx: Any) -> None:
        ctx.register_hook("pre_gateway_dispatch", self.pre_gateway_dispatch)
        ctx.register_hook("pre_llm_call", self.pre_llm_call)
        ctx.register_hook("pre_tool_call", self.pre_tool_call)
        ctx.register_hook("post_tool_call", self.post_tool_call)
        ctx.register_hook("post_llm_call", self.post_llm_call)
        self._follow_setter()

    # --- path 1: the adapter's busy handler --------------------------------------------------------------------------

    def _follow_setter(self) -> None:
        # Only a gateway has adapters; importing their module would cost every other `hermes` command a quarter second.
        if "gateway.platforms.base" not in sys.modules and "gateway" not in sys.argv:
            return
        try:
            from gateway.platforms.base import BasePlatformAdapter
        except Exception:
            log.debug("busy-router: no adapters here", exc_info=True)
            return
        setter = getattr(BasePlatformAdapter, "set_busy_session_handler", None)
        if setter is None or getattr(setter, _WRAPPED, False):
            return
        hooks = self

        def set_busy_session_handler(adapter: Any, handler: Handler | None) -> None:
            setter(adapter, handler)
            runner = getattr(handler, "__self__", None)
            if hermes.looks_like_runner(runner):
                hooks.wrap(runner, adapter)

        setattr(set_busy_session_handler, _WRAPPED, True)
        BasePlatformAdapter.set_busy_session_handler = set_busy_session_handler

    def install(self, runner: Any) -> None:
        """Wraps the handlers of all adapters that are not wrapped yet."""
        for adapter in hermes.adapters(runner):
            self.wrap(runner, adapter)

    def wrap(self, runner: Any, adapter: Any) -> None:
        try:
            stock = getattr(adapter, "_busy_session_handler", None)
            if stock is None or getattr(stock, _WRAPPED, False):
                return
            lacking = hermes.missing(runner, adapter)
            if lacking:
                self._report("this version of Hermes lacks " + ", ".join(lacking) + "; busy messages are left to Hermes")
                return
            adapter.set_busy_session_handler(self._handler(runner, adapter, stock))
            log.info("busy-router: routing busy messages of %s", getattr(adapter, "name", adapter))
        except Exception:
            log.exception("busy-router: could not be installed; busy messages are left to Hermes")

    def _handler(self, runner: Any, adapter: Any, stock: Handler) -> Handler:
        async def busy_router_handler(event: Any, session_key: str) -> bool:
            try:
                if self._intake.wants(runner, event, session_key):
                    self._intake.take(runner, adapter, event, session_key)
                    return True
                if self._intake.was_given_back_to_idle(event):
                    return await self._intake.queue_after_all(runner, adapter, event, session_key)
            except Exception:
                log.exception("busy-router: a message could not be taken; Hermes handles it")
            return await stock(event, session_key)

        setattr(busy_router_handler, _WRAPPED, True)
        return busy_router_handler

    # --- path 2, and the start of runs -------------------------------------------------------------------------------

    def pre_gateway_dispatch(self, event: Any = None, gateway: Any = None, **_: Any) -> dict[str, str] | None:
        try:
            return self._before_dispatch(event, gateway)
        except Exception:
            log.exception("busy-router: the dispatch hook failed; Hermes handles the message")
            return None

    def _before_dispatch(self, event: Any, runner: Any) -> dict[str, str] | None:
        if event is None or not hermes.looks_like_runner(runner):
            return None
        self._loop = asyncio.get_running_loop()
        self.install(runner)
        key = runner._session_key_for_source(event.source)
        command = hermes.registered_command(event)
        if not hermes.in_running_agents(runner, key):
            if command is None:
                self._owners.started(key, getattr(event.source, "user_id", None))
            return None
        adapter = runner._adapter_for_source(event.source)
        if command is not None:
            self._note_command(runner, adapter, event, key, command)
            return None  # Hermes's own commands never wait for anybody
        if adapter is None or hermes.missing(runner, adapter) or hermes.is_hung(runner, key):
            return None
        if not self._intake.wants(runner, event, key):
            return None
        self._intake.take(runner, adapter, event, key)
        return {"action": "skip", "reason": "busy-router decides"}

    def _note_command(self, runner: Any, adapter: Any, event: Any, key: str, command: str) -> None:
        """`/stop` and `/new` end what was to come as well. Hermes clears the head of the queue, `/new` all of it."""
        if command not in ("stop", "new") or not hermes.may_run(runner, event.source, command):
            return
        dropped = self._intake.drop_after_run(key)
        clears = self._settings.stop_clears_queue and self._intake.router_decides
        if command == "stop" and clears and adapter is not None:
            head = len(hermes.queued(runner, adapter, key)) > 0
            behind = hermes.drop_overflow(runner, key)
            dropped = dropped + behind + int(head) if dropped + behind else 0
        if dropped and hermes.acks_enabled() and adapter is not None:
            notice = f"🗑️ Dropped {dropped} queued message{'s' if dropped > 1 else ''}."
            self._intake.start(hermes.say(runner, adapter, event, notice), adapter)

    # --- what the agent does -----------------------------------------------------------------------------------------

    def pre_llm_call(self, session_id: str = "", conversation_history: Any = None, user_message: Any = None, **_: Any) -> None:
        self._observer.turn_started(session_id or "", conversation_history or [])
        runner = hermes.live_runner()
        if runner is None:
            return
        # A gateway whose adapters were made before the plugin was loaded, and whose first turn is a resumed one.
        self.install(runner)
        for key, agent in list(runner._running_agents.items()):
            if getattr(agent, "session_id", None) == session_id and isinstance(user_message, str):
                self._owners.turn_started(key, user_message)

    def pre_tool_call(
        self, tool_name: str = "", args: Any = None, session_id: str = "", tool_call_id: str = "", **_: Any
    ) -> None:
        self._observer.tool_started(session_id or "", tool_call_id, tool_name, args)

    def post_tool_call(self, tool_name: str = "", session_id: str = "", tool_call_id: str = "", **_: Any) -> None:
        self._observer.tool_ended(session_id or "", tool_call_id, tool_name)

    def post_llm_call(self, turn_id: str = "", **_: Any) -> None:
        """The turn is over, but its result is not handed on yet: the last moment to save what was steered into it."""
        agent = self._steering.agent_of(turn_id)
        if agent is not None and self._loop is not None:
            self._requeue(self._loop, self._steering.take_back(agent, turn_id))

    def _report(self, text: str) -> None:
        if text not in self._reported:
            self._reported.add(text)
            log.warning("busy-router: %s", text)
