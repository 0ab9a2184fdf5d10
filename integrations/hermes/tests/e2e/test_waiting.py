"""Runs that wait for the user: approvals and questions."""

from __future__ import annotations

import pytest

from .harness.gateway import Lab, Person


def asks_for_approval(alice: Person) -> int:
    at = alice.say(f"clean up [danger] {alice.nick}").index
    alice.hears("or /deny to cancel", at)
    return at


@pytest.mark.parametrize(("answer", "outcome"), [("yes", "removed"), ("no", "denied")])
def test_a_plain_word_answers_the_approval(on: Lab, alice: Person, answer: str, outcome: str) -> None:
    asks_for_approval(alice)
    at = alice.say(answer).index
    decision = alice.decided(at)
    assert (decision["action"], decision["rule"]) == ("pass_through", "pending_reply")
    request = alice.asked_router(at)[0]
    assert request["busy"]["state"] == "awaiting_approval"
    assert "rm -rf" in request["busy"]["pending_question"]
    found = on.timeline.wait(lambda e: e.who == "MODEL" and bool(e.data.get("results")), "the tool's result", at)
    assert outcome in found.data["results"][0].lower()
    alice.hears("ANSWER to <clean up", at)


def test_the_command_answers_the_approval(on: Lab, alice: Person) -> None:
    asks_for_approval(alice)
    at = alice.say("/deny").index
    alice.hears("ANSWER to <clean up", at)
    assert not alice.asked_router(at)


def test_another_question_leaves_the_approval_pending(on: Lab, alice: Person) -> None:
    asks_for_approval(alice)
    at = alice.say("what is the weather like").index
    assert alice.decided(at)["action"] == "queue"
    second = alice.say("yes").index
    found = on.timeline.wait(lambda e: e.who == "MODEL" and bool(e.data.get("results")), "the tool's result", second)
    assert "removed" in found.data["results"][0]
    alice.hears("ANSWER to <clean up", second)
    alice.hears("ANSWER to <what is the weather like>", second)


def test_an_approval_in_words_that_hermes_does_not_know_refuses_nothing(on: Lab, alice: Person) -> None:
    asks_for_approval(alice)
    at = alice.say("go ahead").index
    assert alice.decided(at)["rule"] == "pending_reply"
    alice.hears("Queued for the next turn", at)
    second = alice.say("yes").index
    alice.hears("ANSWER to <clean up", second)
    alice.hears("ANSWER to <go ahead>", second)


def test_an_answer_reaches_the_question(on: Lab, alice: Person) -> None:
    at = alice.say(f"paint it [clarify] {alice.nick}").index
    alice.hears("Reply with the number", at)
    answered = alice.say("2").index
    decision = alice.decided(answered)
    assert (decision["action"], decision["rule"]) == ("pass_through", "pending_reply")
    request = alice.asked_router(answered)[0]
    assert request["busy"]["state"] == "awaiting_answer"
    assert "Which colour?" in request["busy"]["pending_question"]
    found = on.timeline.wait(lambda e: e.who == "MODEL" and bool(e.data.get("results")), "the answer", answered)
    assert "blue" in found.data["results"][0]
    alice.hears("ANSWER to <paint it", answered)


def test_stop_ends_a_run_that_waits_for_an_answer(on: Lab, alice: Person) -> None:
    at = alice.say(f"paint it [clarify] {alice.nick}").index
    alice.hears("Reply with the number", at)
    stopped = alice.say("stop").index
    assert alice.decided(stopped)["action"] == "interrupt"
    alice.hears("ANSWER to <stop>", stopped)
    assert not any("ANSWER to <paint it" in line for line in alice.heard(at))
