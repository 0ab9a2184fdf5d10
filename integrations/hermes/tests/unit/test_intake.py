"""Each message that is taken is applied, dispatched, or handed back, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fakes import KEY, Agent, Gateway, decision

from busy_router_hermes import hermes
from busy_router_hermes.client import RouterUnavailable


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))  # type: ignore[arg-type]


def test_the_receive_loop_never_waits_for_the_router() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.gate.clear()
        gateway.router.answers = ["queue"]
        await asyncio.wait_for(gateway.receive("later"), 10)  # the answer comes only after that
        assert gateway.queue() == []
        gateway.router.gate.set()
        await gateway.settled()
        assert gateway.queue() == ["later"]
        assert gateway.adapter.said == ["router queue"]

    run(test)


def test_one_decision_at_a_time_in_order_of_arrival() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.gate.clear()
        gateway.router.answers = ["queue"] * 3
        for text in ("a", "b", "c"):
            await gateway.receive(text)
        await gateway.until_asked()
        await asyncio.sleep(0.05)
        assert len(gateway.router.asked) == 1
        gateway.router.gate.set()
        await gateway.settled()
        assert gateway.queue() == ["a", "b", "c"]

    run(test)


@pytest.mark.parametrize(
    "failure", [RouterUnavailable("down"), ValueError("a bug"), KeyError("another"), decision("ask"), decision("detach")]
)
def test_what_cannot_be_decided_goes_to_stock(failure: Any) -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.answers = [failure]
        await gateway.receive("hello")
        await gateway.settled()
        assert gateway.agent.interrupts == ["hello"]
        assert gateway.adapter.said == ["stock interrupt"]
        assert gateway.queue() == ["hello"]

    run(test)


@pytest.mark.parametrize("mode", ["off", "shadow"])
def test_other_modes_change_nothing_whatever_the_answer_says(mode: str) -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.answers = [decision("ignore", mode=mode, ack="no")]
        await gateway.receive("hello")
        await gateway.settled()
        assert gateway.adapter.said == ["stock interrupt"]

    run(test)


def test_hermes_applying_it_fails() -> None:
    """Before it kept the message: stock. After: the message is kept once."""

    async def test() -> None:
        gateway = Gateway()
        real = gateway.runner._queue_or_replace_pending_event
        broken = iter([True, False])

        def queue(key: str, event: Any) -> None:
            if next(broken):
                raise RuntimeError("no")
            real(key, event)

        gateway.runner._queue_or_replace_pending_event = queue  # type: ignore[method-assign]
        gateway.router.answers = ["queue"]
        await gateway.receive("hello")
        await gateway.settled()
        assert gateway.queue() == ["hello"]
        assert gateway.agent.interrupts == ["hello"]  # that was stock

    run(test)


def test_an_ack_that_cannot_be_sent_does_not_queue_twice() -> None:
    async def test() -> None:
        gateway = Gateway()

        async def fails(**_: Any) -> None:
            raise OSError("gone")

        gateway.adapter._send_with_retry = fails  # type: ignore[method-assign]
        gateway.router.answers = ["queue"]
        await gateway.receive("hello")
        await gateway.settled()
        assert gateway.queue() == ["hello"]
        assert gateway.agent.interrupts == []

    run(test)


def test_the_run_ends_during_the_decision() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.gate.clear()
        gateway.router.answers = ["interrupt"]
        await gateway.receive("hello")
        await gateway.until_asked()
        gateway.idle()
        gateway.router.gate.set()
        await gateway.settled()
        assert gateway.adapter.turns == ["hello"]
        assert gateway.queue() == [] and gateway.adapter.said == []

    run(test)


def test_another_run_is_quicker_than_the_hand_back() -> None:
    """It was to be a turn of its own: then it queues, and interrupts nobody."""

    async def test() -> None:
        gateway = Gateway()
        gateway.router.gate.clear()
        gateway.router.answers = ["interrupt"]
        await gateway.receive("hello")
        await gateway.until_asked()
        gateway.idle()
        original = gateway.adapter.handle_message

        async def slow(event: Any) -> None:
            gateway.busy()
            await original(event)

        gateway.adapter.handle_message = slow  # type: ignore[method-assign]
        gateway.router.gate.set()
        await gateway.settled()
        assert gateway.queue() == ["hello"]
        assert gateway.agent.interrupts == []

    run(test)


@pytest.mark.parametrize(("rule", "interrupts"), [("model", 0), ("stop_phrase", 1)])
def test_another_turn_runs_by_now(rule: str, interrupts: int) -> None:
    """A stop means whatever runs. Anything else meant the turn that has ended."""

    async def test() -> None:
        gateway = Gateway()
        gateway.router.gate.clear()
        gateway.router.answers = [decision("interrupt", rule=rule)]
        await gateway.receive("hello")
        await gateway.until_asked()
        gateway.agent._current_turn_id = "turn-2"
        gateway.router.gate.set()
        await gateway.settled()
        assert len(gateway.agent.interrupts) == interrupts
        assert gateway.queue() == ["hello"]

    run(test)


def test_draining_begins_during_the_decision() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.gate.clear()
        await gateway.receive("hello")
        await gateway.until_asked()
        gateway.runner._draining = True
        await asyncio.wait_for(gateway.settled(), 10)  # the answer never comes
        assert gateway.adapter.said == ["draining"]

    run(test)


def test_while_draining_nobody_is_asked() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.runner._draining = True
        await gateway.receive("hello")
        assert gateway.adapter.said == ["draining"]
        assert gateway.router.asked == []

    run(test)


def test_cancelled_during_the_decision() -> None:
    """As `cancel_background_tasks` does at shutdown: the message is with Hermes before the task ends."""

    async def test() -> None:
        gateway = Gateway()
        gateway.router.gate.clear()
        await gateway.receive("first")
        await gateway.receive("second")
        await gateway.until_asked()
        tasks = list(gateway.adapter._background_tasks)
        assert len(tasks) == 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(gateway.queue()) == ["first", "second"]
        assert gateway.intake._sessions == {}

    run(test)


def test_cancelled_while_giving_it_back() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.answers = [RouterUnavailable("down")]
        original = gateway.adapter.handle_message
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def slow(event: Any) -> None:
            begun.set()
            await cancelled.wait()
            await original(event)

        await gateway.receive("hello")
        gateway.adapter.handle_message = slow  # type: ignore[method-assign]
        await begun.wait()
        for task in list(gateway.adapter._background_tasks):
            task.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        await gateway.settled()
        assert gateway.queue() == ["hello"]

    run(test)


@pytest.mark.parametrize("field", ["unauthorized", "internal"])
def test_what_is_not_the_routers(field: str) -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.runner.authorized = field != "unauthorized"
        await gateway.receive("hello", internal=field == "internal")
        await gateway.settled()
        assert gateway.router.asked == []

    run(test)


def test_with_the_breaker_open_hermes_has_the_message_at_once() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.breaker.open = True
        await gateway.receive("hello")
        assert gateway.queue() == ["hello"]
        assert gateway.router.asked == []

    run(test)


def test_but_not_before_messages_that_still_wait() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.gate.clear()
        gateway.router.answers = ["queue"]
        await gateway.receive("first")
        await gateway.until_asked()
        gateway.router.breaker.open = True
        await gateway.receive("second")
        assert gateway.queue() == []
        gateway.router.gate.set()
        await gateway.settled()
        assert gateway.queue() == ["first", "second"]

    run(test)


def test_a_redelivery_is_applied_once() -> None:
    async def test() -> None:
        gateway = Gateway()
        first = decision("queue")
        again = type(first)(**{**first.__dict__, "replayed": True})
        gateway.router.answers = [first, again]
        await gateway.receive("hello", message_id="7")
        await gateway.receive("hello", message_id="7")
        await gateway.settled()
        assert gateway.queue() == ["hello"]

    run(test)


def test_a_redelivery_that_another_process_applied_is_applied() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.answers = [decision("queue", replayed=True)]
        await gateway.receive("hello")
        await gateway.settled()
        assert gateway.queue() == ["hello"]

    run(test)


def test_a_command_waits_for_the_end_of_the_run_and_the_rest_behind_it() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.answers = [decision("queue", rule="unknown_command", command=("foo", "", "unknown")), "queue"]
        await gateway.receive("/foo")
        await gateway.receive("and then")
        await gateway.until(lambda: len(gateway.adapter.said) == 2)
        assert gateway.queue() == []
        assert gateway.adapter.said == ["router queue", "router queue"]
        assert gateway.router.asked[1]["busy"]["queued"] == 1
        gateway.idle()
        await gateway.until(lambda: gateway.adapter.turns)
        await asyncio.sleep(0.3)  # in which the other would have come
        assert gateway.adapter.turns == ["/foo"]
        gateway.idle()
        await gateway.settled()
        assert gateway.adapter.turns == ["/foo", "and then"]
        assert gateway.intake._sessions == {}

    run(test)


def test_what_waits_for_the_end_goes_to_hermes_when_the_gateway_drains() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.answers = [decision("queue", command=("foo", "", "unknown"))]
        await gateway.receive("/foo")
        await gateway.until(lambda: gateway.adapter.said)
        gateway.runner._draining = True
        await gateway.settled()
        assert gateway.adapter.said[-1] == "draining"

    run(test)


def test_dispatch_goes_through_hermes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(hermes, "resolve_command", lambda name: name)
        gateway = Gateway()
        seen: list[str] = []

        async def dispatched(event: Any) -> None:
            seen.append(event.text)

        gateway.router.answers = [decision("dispatch", command=("stop", "now", "control"))]
        await gateway.receive("  /STOP now")
        gateway.adapter.handle_message = dispatched  # type: ignore[method-assign]
        await gateway.settled()
        assert seen == ["/stop now"]

    run(test)


def test_path_2_skips_and_applies() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.adapter._active_sessions.clear()
        gateway.router.answers = ["interrupt"]
        from fakes import Event

        event = Event("hello")
        result = gateway.hooks.pre_gateway_dispatch(event=event, gateway=gateway.runner)
        assert result is not None and result["action"] == "skip"
        assert gateway.hooks.pre_gateway_dispatch(event=event, gateway=gateway.runner) is None, "taken once"
        await gateway.settled()
        assert gateway.agent.interrupts == ["hello"]

    run(test)


def test_path_2_leaves_a_hung_run_to_hermes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        gateway = Gateway()
        monkeypatch.setenv("HERMES_AGENT_TIMEOUT", "0.05")
        from fakes import Event

        assert gateway.hooks.pre_gateway_dispatch(event=Event("hello"), gateway=gateway.runner) is None

    run(test)


def test_an_agent_that_is_being_set_up_is_interrupted_by_the_adapters_flag() -> None:
    async def test() -> None:
        gateway = Gateway(agent=None)
        gateway.router.answers = [decision("interrupt", rule="stop_phrase")]
        await gateway.receive("stop")
        await gateway.settled()
        assert gateway.adapter._active_sessions[KEY].is_set()
        assert gateway.adapter.said == ["router interrupt"]

    run(test)


@pytest.mark.parametrize(("answer", "turns"), [("queue", ["hello"]), (decision("pass_through", mode="off"), [])])
def test_the_edge_after_a_run_is_waited_out_where_the_router_decides(answer: Any, turns: list[str]) -> None:
    """Its answer is being sent: the message is the next turn. Without a decision Hermes does what it does."""

    async def test() -> None:
        gateway = Gateway()
        gateway.runner._running_agents.clear()
        gateway.router.answers = [answer]
        await gateway.receive("hello")
        await gateway.until(lambda: gateway.router.asked if turns else gateway.adapter.said)
        gateway.idle()
        await gateway.settled()
        assert gateway.adapter.turns == turns
        assert gateway.adapter.said == ([] if turns else ["stock interrupt"])

    run(test)


def test_a_steered_message_is_saved_at_the_end_of_the_turn() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.answers = ["steer"]
        await gateway.receive("mind the gap")
        await gateway.settled()
        assert gateway.agent.held == "mind the gap"
        gateway.hooks._loop = asyncio.get_running_loop()
        await asyncio.to_thread(gateway.hooks.post_llm_call, turn_id="turn-1")
        await asyncio.sleep(0)
        assert gateway.queue() == ["mind the gap"]
        assert gateway.agent.held == ""

    run(test)


def test_the_turn_ends_while_steering_is_acknowledged() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.hooks._loop = asyncio.get_running_loop()

        async def slow(**_: Any) -> None:
            await asyncio.to_thread(gateway.hooks.post_llm_call, turn_id="turn-1")

        gateway.adapter._send_with_retry = slow  # type: ignore[method-assign]
        gateway.router.answers = ["steer"]
        await gateway.receive("mind the gap")
        await gateway.settled()
        assert gateway.queue() == ["mind the gap"]

    run(test)


def test_steering_that_was_not_taken_is_not_saved_twice() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.agent.steer = lambda text: False  # type: ignore[method-assign]
        gateway.router.answers = ["steer"]
        await gateway.receive("mind the gap")
        await gateway.settled()
        assert gateway.queue() == ["mind the gap"]
        assert gateway.steering.agent_of("turn-1") is None

    run(test)


def test_a_steered_message_survives_an_interrupt() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.answers = ["steer", "interrupt"]
        gateway.agent.steer("typed with /steer")
        await gateway.receive("mind the gap")
        await gateway.receive("no, the other one")
        await gateway.settled()
        assert gateway.queue() == ["no, the other one", "mind the gap"]
        assert gateway.agent.held == "typed with /steer"

    run(test)


def test_agents_are_told_apart() -> None:
    async def test() -> None:
        gateway = Gateway()
        gateway.router.answers = ["steer"]
        await gateway.receive("mind the gap")
        await gateway.settled()
        assert gateway.steering.take_back(Agent(), "turn-1") == []
        assert gateway.agent.held == "mind the gap"

    run(test)
