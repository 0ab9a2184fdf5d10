"""Hooked in only where it can work, and never twice."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import KEY, Adapter, Ctx, Event, Gateway

import busy_router_hermes
from busy_router_hermes import settings as settings_module
from busy_router_hermes.settings import Settings

FOLDER = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("settings", [Settings(), Settings(url="http://x", enabled=False)])
def test_without_an_address_nothing_is_hooked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_router_hermes, "load_from_hermes", lambda: settings)
    ctx = Ctx()
    busy_router_hermes.register(ctx)
    assert ctx.hooks == {}


def test_a_setting_that_is_wrong_disables_and_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> Settings:
        raise settings_module.SettingsError("url must be something")

    monkeypatch.setattr(busy_router_hermes, "load_from_hermes", fails)
    ctx = Ctx()
    busy_router_hermes.register(ctx)
    assert ctx.hooks == {}
    assert "url must be something" in caplog.text


def test_with_an_address_it_hooks_and_follows_the_setter(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.platforms.base import BasePlatformAdapter

    original = BasePlatformAdapter.set_busy_session_handler
    try:
        monkeypatch.setattr(busy_router_hermes, "load_from_hermes", lambda: Settings(url="http://x"))
        for _ in range(2):  # Hermes can discover its plugins again
            busy_router_hermes.register(ctx := Ctx())
        assert set(ctx.hooks) == {"pre_gateway_dispatch", "pre_llm_call", "pre_tool_call", "post_tool_call", "post_llm_call"}
        gateway = Gateway()
        fresh = Adapter()
        BasePlatformAdapter.set_busy_session_handler(fresh, gateway.runner._handle_active_session_busy_message)
        # The fake's own setter is the one that is called for the wrapping; what counts is what ends up there.
        assert fresh._busy_session_handler.__name__ == "busy_router_handler"
        BasePlatformAdapter.set_busy_session_handler(fresh, None)
        assert fresh._busy_session_handler is None
    finally:
        BasePlatformAdapter.set_busy_session_handler = original


@pytest.mark.parametrize("name", ["_running_agents", "_queue_or_replace_pending_event", "_pending_messages", "_send_with_retry"])
def test_a_hermes_that_lacks_something_is_left_alone(name: str, caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway()
    runner, adapter = Without(gateway.runner, name), Without(Adapter(), name)
    adapter.set_busy_session_handler(gateway.runner._handle_active_session_busy_message)
    before = adapter._busy_session_handler
    with caplog.at_level(logging.WARNING):
        gateway.hooks.wrap(runner, adapter)
        gateway.hooks.wrap(runner, adapter)
    assert adapter._busy_session_handler is before
    assert caplog.text.count(name) == 1


class Without:
    def __init__(self, thing: Any, name: str) -> None:
        self.__dict__.update(_thing=thing, _lacks=name)

    def __getattr__(self, name: str) -> Any:
        if name == self.__dict__["_lacks"]:
            raise AttributeError(name)
        return getattr(self.__dict__["_thing"], name)


def test_wrapping_twice_wraps_once() -> None:
    gateway = Gateway()
    once = gateway.adapter._busy_session_handler
    gateway.hooks.install(gateway.runner)
    assert gateway.adapter._busy_session_handler is once


def test_a_hook_that_fails_leaves_the_message_to_hermes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        gateway = Gateway()
        monkeypatch.setattr(gateway.intake, "wants", lambda *_: 1 / 0)
        assert gateway.hooks.pre_gateway_dispatch(event=Event("hello"), gateway=gateway.runner) is None
        await gateway.receive("hello")
        assert gateway.queue() == ["hello"]

    asyncio.run(test())


def test_hooks_take_what_later_versions_add() -> None:
    gateway = Gateway()
    gateway.hooks.pre_tool_call(tool_name="terminal", args={}, session_id="s", novelty=1)
    gateway.hooks.post_tool_call(tool_name="terminal", session_id="s", novelty=1)
    gateway.hooks.pre_llm_call(session_id="s", conversation_history=[], novelty=1)
    gateway.hooks.post_llm_call(turn_id="t", novelty=1)
    assert gateway.hooks.pre_gateway_dispatch(novelty=1) is None


@pytest.mark.parametrize(("command", "decides", "dropped"), [("stop", True, True), ("stop", False, False), ("new", True, False)])
def test_stop_drops_what_is_queued_behind(command: str, decides: bool, dropped: bool) -> None:
    """`/new` clears its queue itself, and must find it. Where the router does not decide, stock is stock."""

    async def test() -> None:
        gateway = Gateway()
        gateway.intake.router_decides = decides
        gateway.runner._queue_or_replace_pending_event(KEY, Event("one"))
        gateway.runner._queue_or_replace_pending_event(KEY, Event("two"))
        gateway.hooks._note_command(gateway.runner, gateway.adapter, Event(f"/{command}"), KEY, command)
        await gateway.settled()
        assert gateway.queue() == (["one"] if dropped else ["one", "two"])  # the head is Hermes's to drop
        assert gateway.adapter.said == (["🗑️ Dropped 2 queued messages."] if dropped else [])

    asyncio.run(test())


def test_who_may_not_stop_drops_nothing() -> None:
    gateway = Gateway()
    gateway.runner.authorized = False
    gateway.runner._queued_events[KEY] = [Event("two")]
    gateway.hooks._note_command(gateway.runner, gateway.adapter, Event("/stop"), KEY, "stop")
    assert gateway.queue() == ["two"]


def test_importing_the_plugin_loads_neither_gateway_nor_httpx() -> None:
    """A `hermes chat` loads plugins too."""
    code = (
        "import sys; sys.path.insert(0, 'src'); import busy_router_hermes as b; "
        "from busy_router_hermes.settings import Settings; "
        "b.connect(type('C', (), {'register_hook': lambda *a: None})(), Settings(url='http://x')); "
        "print([m for m in ('httpx', 'gateway.run', 'gateway.platforms.base') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
