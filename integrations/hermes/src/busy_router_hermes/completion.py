"""Where the result of a background task goes, if the operator wants the router asked (`completions: true`).

The task runs through Hermes's own code; only what it would send to the chat is held until the router has said where it
belongs. Whatever goes wrong, it is sent as Hermes would have sent it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from . import hermes, request
from .client import RouterClient, RouterUnavailable

log = logging.getLogger("busy_router")

_MAX_SUMMARY = 4_000
_FAILED_PREFIX = "❌"


class Completions:
    def __init__(self, client: RouterClient) -> None:
        self._client = client

    async def background_command(self, runner: Any, adapter: Any, key: str, command: Any, started: Callable[[], None]) -> Any:
        view = _BackgroundView(runner, self, adapter, key, started)
        return await type(runner)._handle_background_command(view, command)

    async def run(self, runner: Any, adapter: Any, key: str, *args: Any, **kwargs: Any) -> None:
        """Hermes's `_run_background_task`, with what it sends held back until it has ended."""
        source, task_id = args[1], str(args[2])
        held = _Held(runner._adapter_for_source(source) or adapter)
        try:
            await type(runner)._run_background_task_inner(_TaskView(runner, held), *args, **kwargs)
        except asyncio.CancelledError:
            await held.release()
            raise
        summary = held.plain_text()
        # Pictures and files cannot be handed to a turn as text: such a result goes where Hermes sends it.
        if summary is None or not await self._deliver(runner, adapter, key, source, task_id, summary[:_MAX_SUMMARY]):
            await held.release()

    async def _deliver(self, runner: Any, adapter: Any, key: str, source: Any, task_id: str, summary: str) -> bool:
        """True where the router's answer was carried out; the held messages are then not sent."""
        agent = hermes.running_agent(runner, key)
        state, _ = await request.state_of(runner, adapter, key, agent)
        failed = summary.startswith(_FAILED_PREFIX)
        question = {
            "task": {
                "id": task_id,
                "status": "failed" if failed else "completed",
                "outcome": "failed" if failed else "completed",
                "summary": summary,
                "kind": "other",
            },
            "origin": {"chat": request.chat_kind(source), "session_id": key[:256], "deliverable": True},
            "parent": {"session_id": key[:256], "exists": True, "busy": state},
        }
        try:
            answer = await self._client.completion(question)
        except RouterUnavailable as error:
            log.info("busy-router: delivering %s as Hermes does: the router %s", task_id, error)
            return False
        delivery = answer.get("delivery")
        text = f"[Background task {task_id} has ended. Tell the user what came of it.]\n{summary}"
        try:
            if delivery == "none" and answer.get("duplicate") is True:
                return True
            if delivery == "marker":
                marker = (answer.get("marker") or {}).get("text")
                if not isinstance(marker, str) or not marker:
                    return False
                await adapter.send(source.chat_id, marker)
                return True
            if delivery == "parent_steer" and agent is not None and agent.steer(text):
                return True
            if delivery in ("parent_turn", "parent_queue", "parent_steer"):
                await adapter.handle_message(_internal_event(source, text))
                return True
        except Exception:
            log.warning("busy-router: the result of %s could not be handed over", task_id, exc_info=True)
        # `none` without a duplicate means that nobody is to be told; Hermes has no other place to keep the result, so the
        # chat keeps it.
        return False


def _internal_event(source: Any, text: str) -> Any:
    """An event as Hermes makes them for its own completions: they queue silently and never interrupt."""
    from gateway.platforms.base import MessageEvent

    return MessageEvent(text=text, source=source, internal=True)


class _View:
    def __init__(self, runner: Any) -> None:
        self.__dict__["_runner"] = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_runner"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_runner"], name, value)


class _BackgroundView(_View):
    def __init__(self, runner: Any, completions: Completions, adapter: Any, key: str, started: Callable[[], None]) -> None:
        super().__init__(runner)
        self.__dict__.update(_completions=completions, _task_adapter=adapter, _key=key, _started=started)

    async def _run_background_task(self, *args: Any, **kwargs: Any) -> None:
        self._started()
        if getattr(getattr(self._runner, "config", None), "multiplex_profiles", False):
            # Hermes wraps the task in the profile's scope there; that wrapper cannot be looked into.
            await self._runner._run_background_task(*args, **kwargs)
            return
        await self._completions.run(self._runner, self._task_adapter, self._key, *args, **kwargs)


class _TaskView(_View):
    def __init__(self, runner: Any, held: _Held) -> None:
        super().__init__(runner)
        self.__dict__["_held"] = held

    def _adapter_for_source(self, source: Any) -> Any:
        return self.__dict__["_held"]


class _Held:
    """An adapter whose `send...` calls wait."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("send"):
            return getattr(self._adapter, name)

        async def hold(*args: Any, **kwargs: Any) -> None:
            if name == "send" and "content" not in kwargs and len(args) > 1:
                kwargs = {**kwargs, "content": args[1]}
                args = args[:1]
            self.calls.append((name, args, kwargs))

        return hold

    def plain_text(self) -> str | None:
        """What was said, if it was nothing but text."""
        if not self.calls or any(name != "send" for name, _, _ in self.calls):
            return None
        return "\n".join(str(kwargs.get("content", "")) for _, _, kwargs in self.calls)

    async def release(self) -> None:
        calls, self.calls = self.calls, []
        for name, args, kwargs in calls:
            await getattr(self._adapter, name)(*args, **kwargs)
