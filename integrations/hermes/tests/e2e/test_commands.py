"""Slash commands during a run. What Hermes knows goes to Hermes, without anybody being asked."""

from __future__ import annotations

import pytest

from .harness.gateway import Lab, Person


@pytest.mark.parametrize("command", ["/background", "/btw"])
def test_side_commands_leave_the_run_alone(on: Lab, alice: Person, command: str) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say(f"{command} look up the weather").index
    alice.hears("Background task complete", at)
    alice.hears("ANSWER to <look up the weather", at)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)
    assert not alice.asked_router(at)


def test_stop_stops_the_run_and_all_that_was_queued(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("then list them").index
    alice.decided(at)
    second = alice.say("then count them").index
    alice.decided(second)
    third = alice.say("/stop").index
    alice.hears("Stopped", third)
    alice.hears("Dropped 2 queued messages", third)
    alice.waits_until("idle")
    alice.say("hello again")
    alice.hears("ANSWER to <hello again>", third)
    asked = [e.text for e in on.timeline.entries("MODEL", "asked", at)]
    assert not any("then list them" in text or "then count them" in text for text in asked)


def test_queue_command_is_a_turn_of_its_own(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("/queue list them").index
    alice.hears("Queued for the next turn.", at)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)
    alice.hears("ANSWER to <list them>", at)


def test_steer_command(on: Lab, alice: Person) -> None:
    alice.starts(f"build it [tool={alice.nick}]")
    alice.waits_for_tool(alice.nick)
    at = alice.say("/steer in release mode").index
    alice.hears("Steer queued", at)
    on.model.release(alice.nick)
    on.timeline.wait(lambda e: e.who == "MODEL" and any("in release mode" in r for r in e.data.get("results", [])), "steered", at)
    alice.hears("ANSWER to <build it", at)


def test_status_answers_at_once(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("/status").index
    alice.hears("Status", at)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)
    assert not alice.asked_router(at)


@pytest.mark.parametrize("command", ["/model gpt", "/retry"])
def test_what_cannot_run_now_is_refused_by_hermes(on: Lab, alice: Person, command: str) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say(command).index
    alice.hears("Agent is running", at)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)


def test_an_unknown_command_waits_verbatim_and_never_reaches_the_model(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("/foobar hello").index
    decision = alice.decided(at)
    assert (decision["action"], decision["rule"]) == ("queue", "unknown_command")
    alice.hears(decision["ack"]["text"], at)
    # What is queued after it stays behind it.
    later = alice.say("then list them").index
    alice.decided(later)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)
    notice = alice.hears("Unknown command", at)
    answer = alice.hears("ANSWER to <then list them>", at)
    assert notice.index < answer.index
    assert not any("/foobar" in e.text for e in on.timeline.entries("MODEL", "asked", at))


def test_a_command_that_hermes_would_not_recognise_is_dispatched_to_it(on: Lab, alice: Person) -> None:
    """Hermes takes only a slash at the very beginning; the router's table is more forgiving."""
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("  /STOP").index
    decision = alice.decided(at)
    assert (decision["action"], decision["command"]["name"]) == ("dispatch", "stop")
    alice.hears("Stopped", at)
    alice.waits_until("idle")


def test_a_path_is_text(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("/usr/bin/env is missing").index
    assert alice.decided(at)["rule"] == "model"
    on.model.release(alice.nick)
    alice.hears("ANSWER to </usr/bin/env is missing>", at)
