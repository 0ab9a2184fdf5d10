"""What the router is told."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import types
from typing import Any

import pytest
from fakes import KEY, Agent, Event, Gateway, Kind, Platform, Source

from busy_router_hermes import hermes, request
from busy_router_hermes.observer import Observer, Owners, recent


def build(gateway: Gateway, event: Event, **options: Any) -> dict[str, Any]:
    return asyncio.run(
        request.build(
            runner=gateway.runner,
            adapter=gateway.adapter,
            event=event,
            key=options.pop("key", KEY),
            observer=gateway.observer,
            owners=gateway.owners,
            ids=request.MessageIds(),
            **options,
        )
    )


def test_everything_at_once() -> None:
    gateway = Gateway()
    gateway.agent.tool = "terminal"
    gateway.agent._active_children = [1, 2]
    gateway.runner._running_agents_ts[KEY] = time.time() - 5
    gateway.owners.started(KEY, "bob")
    gateway.observer.turn_started(
        "session",
        [{"role": r, "content": f"{r} {n}"} for n in range(3) for r in ("user", "assistant")]
        + [{"role": "tool", "content": "x"}],
    )
    gateway.observer.tool_started("session", "call", "terminal", {"command": "ls"})
    asked = build(
        gateway, Event("hello", reply_to_message_id="9", reply_to_text="what?", reply_to_is_own_message=True), waiting=2
    )
    assert asked["session"] == {
        "id": KEY,
        "gateway": "hermes",
        "platform": "irc",
        "chat": "direct",
        "turn_id": "turn-1",
        "owner_id": "bob",
    }
    assert asked["message"]["reply_to"] == {"id": "9", "text": "what?", "from": "assistant"}
    assert asked["message"]["sender_id"] == "alice"
    busy = asked["busy"]
    assert busy["state"] == "running_tool" and busy["subagents"] == 2 and busy["queued"] == 2
    assert busy["tool"]["name"] == "terminal" and busy["tool"]["detachable"] is False
    assert 4500 < busy["elapsed_ms"] < 60_000
    assert [m["text"] for m in asked["history"]] == ["user 1", "assistant 1", "user 2", "assistant 2"]
    assert asked["default_action"] == "interrupt"
    json.dumps(asked)


def test_history_can_be_kept_back() -> None:
    gateway = Gateway()
    gateway.observer.turn_started("session", [{"role": "user", "content": "secret"}])
    assert "history" not in build(gateway, Event("hello"), send_history=False)


def set_state(gateway: Gateway, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if state == "idle":
        gateway.idle()
    elif state == "draining":
        gateway.runner._external_drain_active = True  # type: ignore[attr-defined]
    elif state == "awaiting_approval":
        monkeypatch.setattr(hermes, "pending_approval", lambda key: "rm -rf")
    elif state == "awaiting_answer":
        monkeypatch.setattr(hermes, "pending_answer", lambda runner, key: "Which?")
    elif state == "starting":
        gateway.runner._running_agents[KEY] = object()
    elif state == "compacting":
        gateway.runner.compressing = True
    elif state == "stopping":
        gateway.agent._interrupt_requested = True
    elif state == "running_tool":
        gateway.agent.tool = "terminal"
    elif state == "streaming":
        gateway.agent.doing = "receiving stream response"


@pytest.mark.parametrize(
    "state",
    [
        "idle",
        "draining",
        "awaiting_approval",
        "awaiting_answer",
        "starting",
        "compacting",
        "stopping",
        "running_tool",
        "streaming",
        "thinking",
    ],
)
def test_states(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    set_state(gateway, state, monkeypatch)
    busy = build(gateway, Event("hello"))["busy"]
    assert busy["state"] == state
    assert busy.get("pending_question") == {"awaiting_approval": "rm -rf", "awaiting_answer": "Which?"}.get(state)


def test_a_session_that_only_sends_its_answer_is_stopping() -> None:
    gateway = Gateway()
    gateway.runner._running_agents.clear()
    assert build(gateway, Event("hello"))["busy"]["state"] == "starting"
    gateway.adapter._active_sessions[KEY]._hermes_run_generation = 3
    assert build(gateway, Event("hello"))["busy"]["state"] == "stopping"


@pytest.mark.parametrize(
    ("kind", "thread", "chat"),
    [
        ("dm", None, "direct"),
        ("dm", "7", "direct"),
        ("group", None, "group"),
        ("channel", None, "channel"),
        ("group", "7", "thread"),
        ("thread", "7", "thread"),
    ],
)
def test_chats(kind: str, thread: str | None, chat: str) -> None:
    assert request.chat_kind(Source(chat_type=kind, thread_id=thread)) == chat


@pytest.mark.parametrize(
    ("event", "addressed"),
    [
        (Event("x"), True),
        (Event("x", source=Source(Platform.TELEGRAM, chat_type="group")), None),
        (Event("x @Hermes_bot", source=Source(Platform.TELEGRAM, chat_type="group")), True),
        (Event("x", source=Source(Platform.TELEGRAM, chat_type="group"), reply_to_is_own_message=True), True),
        (Event("x", source=Source(Platform.TELEGRAM, chat_type="group"), metadata={"addressed": False}), False),
        (Event("x", source=Source(Platform.IRC, chat_type="group")), True),
    ],
)
def test_addressed(event: Event, addressed: bool | None) -> None:
    adapter = types.SimpleNamespace(_bot_username="hermes_bot")
    assert request.addressed(event, adapter) is addressed


@pytest.mark.parametrize(
    ("event", "media"),
    [
        (Event(), []),
        (
            Event(message_type=Kind.PHOTO, media_urls=["a", "b"], media_types=["image/png"]),
            [{"kind": "photo"}, {"kind": "photo"}],
        ),
        (Event(message_type=Kind.VOICE, media_urls=["a"], media_types=["audio/ogg"]), [{"kind": "voice"}]),
        (Event(message_type=Kind.STICKER), [{"kind": "sticker"}]),
        (Event(media_urls=["a"], media_types=["application/pdf"]), [{"kind": "document"}]),
        (Event(message_type=Kind.PHOTO, media_urls=["a"], metadata={"media_group_id": 5}), [{"kind": "photo", "album_id": "5"}]),
        (
            Event(message_type=Kind.PHOTO, media_urls=["a"], raw_message=types.SimpleNamespace(media_group_id="z")),
            [{"kind": "photo", "album_id": "z"}],
        ),
    ],
)
def test_media(event: Event, media: list[dict[str, str]]) -> None:
    assert request.media(event) == media


@pytest.mark.parametrize("text", ["ü" * 40_000, '"' * 40_000, "\x01" * 40_000, "a" * 32_768])
def test_a_long_text_still_fits(text: str) -> None:
    asked = build(Gateway(), Event(text))
    sent = asked["message"]["text"]
    assert text.startswith(sent) and len(sent.encode()) <= 32_768
    assert len(json.dumps(asked, ensure_ascii=False).encode()) < 60_000
    if text[0] == "a":
        assert sent == text


def test_a_long_session_key_is_shortened_the_same_way_each_time() -> None:
    gateway = Gateway()
    keys = {build(gateway, Event("x"), key="k" * 400)["session"]["id"] for _ in range(2)}
    assert len(keys) == 1 and len(keys.pop()) <= 256


def test_ids_tell_messages_apart() -> None:
    ids = request.MessageIds()
    assert ids.unique("s", "7", "one") == "7"
    assert ids.unique("s", "7", "two") == "7~2"
    assert ids.unique("s", "7", "one") == "7", "a redelivery keeps its id"
    assert ids.unique("t", "7", "two") == "7"
    assert ids.unique("s", None, "one") is None


def test_without_the_background_handler_it_is_not_offered() -> None:
    class Bare:
        pass

    assert request.capabilities(Bare(), Agent()) == ["interrupt", "queue", "ignore", "steer"]


def test_an_agent_that_is_being_set_up_cannot_be_steered() -> None:
    gateway = Gateway(agent=None)
    assert build(gateway, Event("hello"))["capabilities"] == ["interrupt", "queue", "ignore", "background"]


@pytest.mark.parametrize(
    ("mode", "text_mode", "action"),
    [
        ("interrupt", "interrupt", "interrupt"),
        ("interrupt", "queue", "queue"),
        ("steer", "queue", "steer"),
        ("redirect", "interrupt", None),
    ],
)
def test_default_action(mode: str, text_mode: str, action: str | None) -> None:
    runner = types.SimpleNamespace(_busy_input_mode=mode, _busy_text_mode=text_mode)
    assert hermes.default_action(runner, None) == action
    runner._effective_busy_input_mode = lambda source: "queue"
    assert hermes.default_action(runner, None) == "queue"


def test_pending_things_of_the_real_modules() -> None:
    from tools import approval, clarify_gateway

    assert hermes.pending_approval(KEY) is None
    approval._gateway_queues[KEY] = [approval._ApprovalEntry({"command": "rm x", "description": "delete"})]
    assert hermes.pending_approval(KEY) == "delete: rm x"
    approval._gateway_queues.pop(KEY)
    runner = types.SimpleNamespace()
    assert hermes.pending_answer(runner, KEY) is None
    entry = clarify_gateway.register("c1", KEY, "Which?", ["red", "blue"])
    assert hermes.pending_answer(runner, KEY) == "Which? (red / blue)"
    hermes.give_up_question(KEY)
    assert entry.event.is_set() and hermes.pending_answer(runner, KEY) is None


def test_commands_of_the_real_registry() -> None:
    assert hermes.resolve_command("bg") == "background"
    assert hermes.resolve_command("foobar") is None
    assert hermes.registered_command(Event("/btw hello")) == "background"
    assert hermes.registered_command(Event("/usr/bin/env")) is None


def test_observer_forgets_the_oldest_and_follows_tools() -> None:
    observer = Observer()
    for n in range(600):
        observer.turn_started(f"s{n}", [{"role": "user", "content": "x"}])
    assert observer.turn("s0").history == [] and observer.turn("s599").history
    observer.tool_started("s599", "1", "terminal", {"command": "ls -l"})
    observer.tool_started("s599", "2", "read_file", {"path": "a"})
    assert "ls -l" in (observer.turn("s599").preview_of("terminal") or "")
    assert ";" in (observer.turn("s599").preview_of("terminal, read_file") or "")
    observer.tool_ended("s599", "1", "terminal")
    assert observer.turn("s599").preview_of("terminal") is None


def test_recent_reads_parts_and_cuts() -> None:
    talk = [{"role": "user", "content": [{"type": "text", "text": "a" * 900}]}, {"role": "assistant", "content": None}]
    assert recent(talk) == [{"role": "user", "text": "a" * 400}]


def test_owners_follow_queued_turns() -> None:
    owners = Owners()
    owners.started(KEY, "ann")
    owners.queued(KEY, "bob", "then count them")
    owners.queued(KEY, "ann", "then sort them")
    owners.turn_started(KEY, "something else")
    assert owners.of(KEY) == "ann"
    owners.turn_started(KEY, "[bob] then count them")
    assert owners.of(KEY) == "bob"
    owners.turn_started(KEY, "then sort them")
    assert owners.of(KEY) == "ann"


def test_a_preview_without_hermess_redaction_names_only_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agent.display", None)
    observer = Observer()
    observer.tool_started("s", "1", "fetch", {"token": "geheim"})
    assert observer.turn("s").preview_of("fetch") == '["token"]'
