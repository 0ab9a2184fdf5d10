"""Hermes's own busy handler, run with the router's mode: what it does, and what is said of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes import KEY, Event, Gateway, decision

from busy_router_hermes import hermes, stock


def say(gateway: Gateway, answers: list[Any], *texts: str) -> Gateway:
    async def send() -> None:
        gateway.router.answers = answers
        for text in texts:
            await gateway.receive(text)
        await gateway.settled()

    asyncio.run(asyncio.wait_for(send(), 10))
    return gateway


def test_an_interrupt_goes_ahead_of_the_queue_and_interrupts_keep_their_order() -> None:
    gateway = say(Gateway(), ["queue", "queue", "interrupt", "interrupt"], "a", "b", "c", "d")
    assert gateway.queue() == ["c", "d", "a", "b"]
    assert gateway.agent.interrupts == ["c", "d"]


def test_each_action_has_its_own_ack() -> None:
    gateway = say(Gateway(), ["queue", "interrupt"], "a", "b")
    assert gateway.adapter.said == ["router queue", "router interrupt"]


def test_no_ack_means_silence() -> None:
    assert say(Gateway(), [decision("queue", ack=None)], "a").adapter.said == []


def test_protected_subagents_are_told_truthfully() -> None:
    gateway = Gateway()
    gateway.agent._active_children = [object()]
    say(gateway, ["interrupt", "interrupt"], "a", "b")
    assert gateway.agent.interrupts == []
    assert gateway.queue() == ["a", "b"], "a demoted interrupt is in nobody's way"
    assert gateway.adapter.said == ["stock queue"], "Hermes's words, and once"


def test_compression_is_told_truthfully() -> None:
    gateway = Gateway()
    gateway.runner.compressing = True
    say(gateway, ["interrupt"], "a")
    assert gateway.adapter.said == ["stock queue"]


def test_steering_that_is_not_taken_is_queued_and_said_so() -> None:
    gateway = Gateway()
    gateway.agent.steer = lambda text: False
    say(gateway, ["steer"], "a")
    assert gateway.queue() == ["a"]
    assert gateway.adapter.said == ["stock queue"]


def test_a_full_queue_says_so() -> None:
    gateway = Gateway()
    gateway.runner.cap = 1
    say(gateway, ["queue", "queue"], "a", "b")
    assert gateway.queue() == ["a"]
    assert gateway.adapter.said == ["router queue", stock.QUEUE_FULL]


def test_the_legacy_text_mode_does_not_end_the_handler() -> None:
    gateway = Gateway()
    gateway.runner._busy_text_mode = "queue"
    say(gateway, ["queue"], "a")
    assert gateway.adapter.said == ["router queue"]


def test_what_stock_leaves_to_the_adapter_gets_there() -> None:
    gateway = Gateway()
    gateway.runner._busy_text_mode = "queue"
    say(gateway, [decision("pass_through", ack=None)], "a")
    assert gateway.adapter.leftovers == ["a"]


def test_background_is_hermess_own() -> None:
    gateway = say(Gateway(), ["background", decision("background", ack=None)], "the weather — today", "more")
    assert gateway.runner.backgrounds == ["the weather — today", "more"]
    assert gateway.adapter.said == ["router background", "started"]
    assert gateway.queue() == []


def test_background_that_may_not_be_run_is_queued() -> None:
    gateway = Gateway()
    gateway.runner._check_slash_access = lambda source, name: "admins only"  # type: ignore[attr-defined]
    say(gateway, ["background"], "the weather")
    assert gateway.queue() == ["the weather"]
    assert gateway.adapter.said == ["stock queue"]


def test_acks_obey_hermess_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_GATEWAY_BUSY_ACK_ENABLED", "false")
    assert say(Gateway(), ["background"], "the weather").adapter.said == []


def test_a_displaced_message_is_put_back() -> None:
    """What Hermes does after three queued turns: the fourth goes back into the slot of the fifth."""
    gateway = say(Gateway(), ["queue"] * 3, "d", "e", "f")
    slots = gateway.adapter._pending_messages
    fourth = slots.pop(KEY)
    slots[KEY] = gateway.runner._queued_events[KEY].pop(0)
    slots[KEY] = fourth
    assert gateway.queue() == ["d", "e", "f"]


def test_messages_the_plugin_never_saw_are_left_to_hermes() -> None:
    gateway = Gateway()
    hermes.keep_displaced(gateway.runner, gateway.adapter)
    gateway.adapter._pending_messages[KEY] = Event("one")
    gateway.adapter._pending_messages[KEY] = Event("two")
    assert gateway.queue() == ["two"]


def test_the_view_writes_through() -> None:
    gateway = Gateway()
    view: Any = stock.RunnerView(gateway.runner, gateway.adapter, KEY, "queue", None, stock.Acks(), lambda: None)
    view.something = 1
    assert gateway.runner.something == 1  # type: ignore[attr-defined]


def test_own_words_have_a_cooldown_for_each_kind() -> None:
    now = [0.0]
    acks = stock.Acks(30, lambda: now[0])
    assert acks.due("s", "a") and not acks.due("s", "a") and acks.due("s", "b") and acks.due("t", "a")
    now[0] = 31
    assert acks.due("s", "a")
