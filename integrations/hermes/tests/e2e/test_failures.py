"""The router fails, the run ends, the gateway goes down: nothing is lost, and Hermes works as without the plugin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from .harness.gateway import Lab, Person
from .harness.router import Link
from .harness.timeline import TIMEOUT_S

STOCK_ACK = "⚡ Interrupting current task"


@pytest.fixture(scope="module")
def frail(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """A short break after a failure; as little patience with the router as a busy machine allows."""
    lab = make_lab(settings={"timeout_ms": 5000, "breaker_open_s": 1.5})
    yield lab
    lab.close()


@pytest.fixture
def link(frail: Lab) -> Iterator[Link]:
    assert frail.link is not None
    yield frail.link
    if frail.link.server is None:
        frail.link.revive()
    frail.link.fault = None


@pytest.fixture
def carol(frail: Lab, link: Link, name: str) -> Iterator[Person]:
    person = frail.person(name)
    # The breaker may still be open from the test before: it closes with the first answer.
    until_routed(person)
    yield person
    frail.settle()


def until_routed(person: Person) -> None:
    """Says the same to one run after the other until the router has it ignored."""
    lab = person.lab
    deadline = time.monotonic() + TIMEOUT_S
    routed = False
    while not routed:
        assert time.monotonic() < deadline, f"the router is not asked again\n{lab.timeline.render()}"
        log, hold = lab.log_size(), f"{person.nick}warm{lab.timeline.mark()}"
        person.starts(f"get ready [hold={hold}]")
        at = person.say("thanks").index
        # Either it is ignored, or Hermes takes it as an interruption and has it answered: which ends the run.
        while not (routed := "busy-router: ignore in " in lab.log(log)) and person.session_state() != "idle":
            assert time.monotonic() < deadline, f"the run neither goes on nor ends\n{lab.timeline.render()}"
            time.sleep(0.02)
        lab.model.release(hold)
        if routed:
            person.hears("ANSWER to <get ready", at)
        person.waits_until("idle")


@pytest.mark.parametrize("fault", ["hang", "500", "garbage", "close"])
def test_a_failing_router_leaves_hermes_as_it_is(frail: Lab, link: Link, carol: Person, fault: str) -> None:
    carol.starts(f"copy the files [hold={carol.nick}]")
    link.fault = fault
    at = carol.say("thanks").index  # a router that decided would have it ignored
    carol.hears(STOCK_ACK, at)
    carol.hears("ANSWER to <thanks>", at)
    frail.model.release(carol.nick)


def test_a_dead_router_costs_one_time_out(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(settings={"timeout_ms": 1500, "breaker_open_s": 600})
    assert lab.link is not None
    dan = lab.person("dan")
    dan.starts("copy the files [hold=dan]")
    lab.link.fault = "hang"
    at = lab.timeline.mark()
    lab.irc.say_at_once("dan", ["one {queue}", "two {queue}", "three {queue}"])
    dan.hears("ANSWER to <three {queue}>", at)
    assert len(dan.asked_router(at)) == 1
    lab.close()


def test_nobody_listens_and_then_the_router_is_back(frail: Lab, link: Link, carol: Person) -> None:
    carol.starts(f"copy the files [hold={carol.nick}]")
    link.die()
    at = carol.say("thanks").index
    carol.hears("ANSWER to <thanks>", at)
    carol.waits_until("idle")
    link.revive()
    until_routed(carol)


def test_the_router_restarts(frail: Lab, link: Link, carol: Person) -> None:
    assert frail.router is not None
    frail.router.stop()
    carol.starts(f"copy the files [hold={carol.nick}]")
    at = carol.say("thanks").index
    carol.hears("ANSWER to <thanks>", at)
    carol.waits_until("idle")
    frail.model.release(carol.nick)
    frail.start_router()
    until_routed(carol)


# --- while a decision is pending -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_lab(settings={"timeout_ms": 300_000})
    yield lab
    lab.close()


@pytest.fixture
def dave(patient: Lab, name: str) -> Iterator[Person]:
    yield patient.person(name)
    patient.settle()


def test_a_run_that_ends_during_the_decision(patient: Lab, dave: Person, name: str) -> None:
    """The message is then a turn of its own, and only one."""
    assert patient.link is not None
    dave.starts(f"copy the files [hold={name}]")
    patient.link.hold()
    at = dave.say("and then list them {interrupt}").index
    patient.wait("ROUTER", "asked", "and then list them", at)
    patient.model.release(name)
    dave.hears("ANSWER to <copy the files", at)
    dave.waits_until("idle")
    patient.link.release()
    dave.hears("ANSWER to <and then list them {interrupt}>", at)
    dave.waits_until("idle")
    assert dave.heard(at) == [f"ANSWER to <copy the files [hold={name}]>", "ANSWER to <and then list them {interrupt}>"]


def test_a_decision_on_a_turn_that_has_ended_does_not_hit_the_next(patient: Lab, dave: Person, name: str) -> None:
    """The run goes on with what was queued: that turn was not what was to be interrupted."""
    assert patient.link is not None
    dave.starts(f"copy the files [hold={name}]")
    at = dave.say(f"/queue now the pictures [hold={name}x]").index
    dave.hears("Queued", at)
    patient.link.hold()
    late = dave.say("no, the other files {interrupt}").index
    patient.wait("ROUTER", "asked", "no, the other files", late)
    patient.model.release(name)
    patient.asked("now the pictures", late)
    patient.link.release()
    dave.hears("Queued for the next turn", late)
    patient.model.release(f"{name}x")
    dave.hears("ANSWER to <now the pictures", late)
    dave.hears("ANSWER to <no, the other files {interrupt}>", late)


def test_messages_that_wait_keep_their_order(patient: Lab, dave: Person, name: str) -> None:
    assert patient.link is not None
    dave.starts(f"copy the files [hold={name}]")
    patient.link.hold()
    at = dave.say("first").index
    dave.say("second")
    dave.say("third")
    patient.wait("ROUTER", "asked", "first", at)
    assert len(dave.asked_router(at)) == 1, "one decision at a time"
    patient.link.release()
    dave.decisions(at, 3)
    patient.model.release(name)
    dave.hears("ANSWER to <third>", at)
    answers = [line for line in dave.heard(at) if line.startswith("ANSWER")][1:]
    assert answers == ["ANSWER to <first>", "ANSWER to <second>", "ANSWER to <third>"]


def test_the_gateway_goes_down_during_the_decision(make_lab: Callable[..., Lab]) -> None:
    """The sender is told what Hermes tells everybody who writes then."""
    lab = make_lab(settings={"timeout_ms": 300_000}, config={"agent": {"restart_drain_timeout": 3}})
    assert lab.link is not None
    erin = lab.person("erin")
    erin.starts("copy the files [hold=erin]")
    lab.link.hold()
    at = erin.say("and then list them").index
    lab.wait("ROUTER", "asked", "and then list them", at)
    lab.stop()
    erin.hears("not accepting another turn right now", at)
    assert "Hermes did not take" not in lab.log()
    lab.close()


def test_a_session_that_is_resumed_at_start_up_is_routed(make_lab: Callable[..., Lab]) -> None:
    """Nobody has written since the start, so no hook has run before this message."""
    lab = make_lab(config={"agent": {"restart_drain_timeout": 0.2}})
    fay = lab.person("fay")
    fay.starts("copy the files [hold=fay]")
    lab.stop()
    at = lab.timeline.mark()
    lab.model.hold_all = "resumed"
    lab.start(warm_up=False)
    lab.timeline.wait(lambda e: e.who == "MODEL" and e.what == "asked", "the resumed run", at)
    late = fay.say("thanks").index
    decision = fay.decided(late)
    assert (decision["action"], decision["rule"]) == ("ignore", "backchannel")
    lab.model.hold_all = None
    lab.model.release("resumed")
    fay.hears("ANSWER", at)
    assert not [e for e in lab.timeline.entries("MODEL", "asked", late) if e.text == "thanks"]
    lab.close()
