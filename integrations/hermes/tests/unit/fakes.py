"""A gateway small enough to see through, with the names and the manners of Hermes 0.19.0 that the plugin relies on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from busy_router_hermes.actions import Actions
from busy_router_hermes.client import RouterUnavailable
from busy_router_hermes.install import Hooks
from busy_router_hermes.intake import Intake
from busy_router_hermes.observer import Observer, Owners
from busy_router_hermes.protocol import Command, Decision
from busy_router_hermes.settings import Settings
from busy_router_hermes.steering import Steering

KEY = "agent:main:irc:dm:alice"


class Kind(Enum):
    TEXT = "text"
    PHOTO = "photo"
    VOICE = "voice"
    STICKER = "sticker"


class Platform(Enum):
    IRC = "irc"
    TELEGRAM = "telegram"


@dataclass
class Source:
    platform: Any = Platform.IRC
    chat_id: str = "alice"
    chat_type: str = "dm"
    user_id: str | None = "alice"
    thread_id: str | None = None


@dataclass
class Event:
    text: str = ""
    message_type: Kind = Kind.TEXT
    source: Source = field(default_factory=Source)
    message_id: str | None = "1"
    media_urls: list[str] = field(default_factory=list)
    media_types: list[str] = field(default_factory=list)
    reply_to_message_id: str | None = None
    reply_to_text: str | None = None
    reply_to_is_own_message: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    raw_message: Any = None
    internal: bool = False

    def get_command(self) -> str | None:
        if not self.text.startswith("/"):
            return None
        name = self.text.split(maxsplit=1)[0][1:].lower()
        return None if "/" in name else name

    def get_command_args(self) -> str:
        parts = self.text.split(maxsplit=1)
        return parts[1] if len(parts) > 1 else ""


class Agent:
    def __init__(self, turn: str = "turn-1") -> None:
        self.session_id = "session"
        self._current_turn_id = turn
        self._active_children: list[Any] = []
        self._interrupt_requested = False
        self.interrupts: list[str] = []
        self.held = ""
        self.tool: str | None = None
        self.doing = "waiting"

    def get_activity_summary(self) -> dict[str, Any]:
        return {"current_tool": self.tool, "last_activity_desc": self.doing, "seconds_since_activity": 0.1}

    def interrupt(self, text: str) -> None:
        self.interrupts.append(text)

    def steer(self, text: str) -> bool:
        self.held = f"{self.held}\n{text}".strip()
        return True

    def _drain_pending_steer(self) -> str | None:
        held, self.held = self.held, ""
        return held or None


class Adapter:
    name = "IRC"

    def __init__(self) -> None:
        self._active_sessions: dict[str, Any] = {}
        self._pending_messages: dict[str, Any] = {}
        self._background_tasks: set[Any] = set()
        self._busy_session_handler: Any = None
        self.runner: Any = None
        self.said: list[str] = []
        self.turns: list[str] = []
        self.leftovers: list[str] = []

    def set_busy_session_handler(self, handler: Any) -> None:
        self._busy_session_handler = handler

    async def handle_message(self, event: Event) -> None:
        await asyncio.sleep(0)
        if KEY in self._active_sessions:
            if not await self._busy_session_handler(event, KEY):
                self.leftovers.append(event.text)
            return
        self._active_sessions[KEY] = asyncio.Event()
        self.turns.append(event.text)

    async def _send_with_retry(self, chat_id: str, content: str, reply_to: Any = None, metadata: Any = None) -> None:
        self.said.append(content)


class Runner:
    """The busy handler is Hermes's, shortened to its order of steps."""

    def __init__(self) -> None:
        self._running_agents: dict[str, Any] = {}
        self._running_agents_ts: dict[str, float] = {}
        self._queued_events: dict[str, list[Any]] = {}
        self._busy_ack_ts: dict[str, float] = {}
        self._busy_input_mode = "interrupt"
        self._busy_text_mode = "interrupt"
        self._draining = False
        self.adapters: dict[Any, Any] = {}
        self.authorized = True
        self.compressing = False
        self.cap = 32
        self.backgrounds: list[str] = []

    def _adapter_for_source(self, source: Any) -> Any:
        return next(iter(self.adapters.values()), None)

    def _session_key_for_source(self, source: Any) -> str:
        return KEY

    def _is_user_authorized(self, source: Any) -> bool:
        return self.authorized

    def _agent_has_active_subagents(self, agent: Any) -> bool:
        return bool(getattr(agent, "_active_children", None))

    async def _session_has_compression_in_flight(self, key: str) -> bool:
        return self.compressing

    async def _handle_background_command(self, event: Any) -> str:
        self.backgrounds.append(event.get_command_args())
        return "started"

    def _queue_or_replace_pending_event(self, key: str, event: Any) -> None:
        slots = self._adapter_for_source(event.source)._pending_messages
        if len(self._queued_events.get(key, [])) + (key in slots) >= self.cap:
            return
        if key in slots:
            self._queued_events.setdefault(key, []).append(event)
        else:
            slots[key] = event

    async def _handle_active_session_busy_message(self, event: Any, key: str) -> bool:
        adapter = self._adapter_for_source(event.source)
        if self._draining:
            await adapter._send_with_retry(chat_id="alice", content="draining")
            return True
        if event.internal:
            return False
        agent = self._running_agents.get(key)
        mode = self._busy_input_mode
        if self._busy_text_mode == "queue" and mode != "steer":
            return False
        if mode == "interrupt" and self._agent_has_active_subagents(agent):
            mode = "queue"
        if mode == "interrupt" and await self._session_has_compression_in_flight(key):
            mode = "queue"
        live = hasattr(agent, "steer")
        steered = mode == "steer" and live and bool(event.text) and agent.steer(event.text)
        if mode == "steer" and not steered:
            mode = "queue"
        if not steered:
            self._queue_or_replace_pending_event(key, event)
        if mode == "interrupt" and live:
            agent.interrupt(event.text)
        if self._busy_ack_ts.get(key, 0) > 1:
            return True
        self._busy_ack_ts[key] = 2.0
        await adapter._send_with_retry(chat_id="alice", content=f"stock {mode}")
        return True


class Router:
    """Answers as told; a name of an action is enough."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[dict[str, Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.breaker = Closed()

    async def decide(self, request: dict[str, Any]) -> Decision:
        self.asked.append(request)
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else RouterUnavailable("says nothing")
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Decision) else decision(answer)


class Closed:
    open = False


_serial = iter(range(1, 1_000_000))


def decision(action: str, **fields: Any) -> Decision:
    fields.setdefault("ack", f"router {action}" if action != "ignore" else None)
    command = fields.pop("command", None)
    return Decision(decision_id=str(next(_serial)), action=action, command=Command(*command) if command else None, **fields)


class Ctx:
    def __init__(self) -> None:
        self.hooks: dict[str, Any] = {}

    def register_hook(self, name: str, hook: Any) -> None:
        self.hooks[name] = hook


class Gateway:
    """Everything put together, with one session that is busy."""

    def __init__(self, agent: Any = "running", **settings: Any) -> None:
        self.runner, self.adapter, self.router = Runner(), Adapter(), Router()
        self.adapter.runner = self.runner
        self.runner.adapters = {"irc": self.adapter}
        self.agent = Agent() if agent == "running" else agent
        self.busy()
        self.observer, self.owners, self.steering = Observer(), Owners(), Steering()
        self.settings = Settings(url="http://router", **settings)
        self.actions = Actions(self.owners, self.steering)
        client: Any = self.router
        self.intake = Intake(self.settings, client, self.actions, self.observer, self.owners)
        self.hooks = Hooks(self.settings, self.intake, self.observer, self.owners, self.steering, self.actions.requeue_soon)
        self.adapter.set_busy_session_handler(self.runner._handle_active_session_busy_message)
        self.hooks.install(self.runner)

    def busy(self) -> None:
        self.adapter._active_sessions[KEY] = asyncio.Event()
        self.runner._running_agents[KEY] = self.agent if self.agent is not None else object()

    def idle(self) -> None:
        self.adapter._active_sessions.pop(KEY, None)
        self.runner._running_agents.pop(KEY, None)

    async def receive(self, text: str = "", **fields: Any) -> Event:
        """As the adapter's receive loop would: returns at once."""
        event = Event(text, **{"message_id": str(next(_serial)), **fields})
        await self.adapter.handle_message(event)
        return event

    async def until(self, holds: Callable[[], object]) -> None:
        """Waits for what is sure to come; the test's own limit ends it."""
        while not holds():
            await asyncio.sleep(0.001)

    async def until_asked(self, times: int = 1) -> None:
        await self.until(lambda: len(self.router.asked) >= times)

    async def settled(self) -> None:
        while tasks := [t for t in self.adapter._background_tasks if not t.done()]:
            await asyncio.wait(tasks, timeout=5)

    def queue(self) -> list[str]:
        head = self.adapter._pending_messages.get(KEY)
        rest = self.runner._queued_events.get(KEY, [])
        return [e.text for e in ([head] if head else []) + rest]
