"""Every action on path 1: a message that arrives during a run, through the adapter's busy handler."""

from __future__ import annotations

from .harness.gateway import PATIENCE_MS, Lab, Person


def test_interrupt_stops_the_run_and_the_message_is_the_next_turn(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("no, move them {interrupt}").index
    assert alice.decided(at)["action"] == "interrupt"
    alice.hears("ANSWER to <no, move them {interrupt}>", at)
    on.model.release(alice.nick)
    assert not any("ANSWER to <copy the files" in line for line in alice.heard())


def test_queue_lets_the_run_finish_first(on: Lab, alice: Person) -> None:
    alice.starts(f"count to ten [hold={alice.nick}]")
    at = alice.say("then list the files").index
    decision = alice.decided(at)
    assert (decision["action"], decision["rule"]) == ("queue", "model")
    alice.hears(decision["ack"]["text"], at)
    on.model.release(alice.nick)
    first = alice.hears("ANSWER to <count to ten", at)
    second = alice.hears("ANSWER to <then list the files>", at)
    assert first.index < second.index


def test_ignore_says_nothing_and_costs_no_turn(on: Lab, alice: Person) -> None:
    alice.starts(f"count to ten [hold={alice.nick}]")
    at = alice.say("thanks").index
    assert alice.decided(at)["action"] == "ignore"
    on.model.release(alice.nick)
    alice.hears("ANSWER to <count to ten", at)
    alice.say("and a second job")
    alice.hears("ANSWER to <and a second job", at)
    assert [line.split(" [")[0] for line in alice.heard(at)] == ["ANSWER to <count to ten", "ANSWER to <and a second job>"]
    assert not [e for e in on.timeline.entries("MODEL", "asked", at) if e.text.strip() == "thanks"]


def test_steer_reaches_the_running_turn(on: Lab, alice: Person) -> None:
    alice.starts(f"build it [tool={alice.nick}]")
    alice.waits_for_tool(alice.nick)
    at = alice.say("use the release profile {steer}").index
    decision = alice.decided(at)
    assert decision["action"] == "steer"
    alice.hears(decision["ack"]["text"], at)
    on.model.release(alice.nick)
    asked = on.timeline.wait(
        lambda e: e.who == "MODEL" and any("use the release profile" in r for r in e.data.get("results", [])), "steered", at
    )
    assert "build it" in asked.text
    alice.hears("ANSWER to <build it", at)


def test_a_steered_message_that_the_turn_never_took_is_the_next_turn_even_behind_a_queue(on: Lab, alice: Person) -> None:
    alice.starts(f"think about it [hold={alice.nick}]")
    at = alice.say("mind the budget {steer}").index
    decision = alice.decided(at)
    assert decision["action"] == "steer"
    alice.hears(decision["ack"]["text"], at)
    later = alice.say("then write a summary").index
    assert alice.decided(later)["action"] == "queue"
    on.model.release(alice.nick)
    alice.hears("ANSWER to <then write a summary>", at)
    alice.hears("ANSWER to <mind the budget {steer}>", at)


def test_background_runs_beside_the_run(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("look up the weather {background}").index
    decision = alice.decided(at)
    assert decision["action"] == "background"
    alice.hears("Background task complete", at)
    alice.hears("ANSWER to <look up the weather", at)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)


def test_stop_phrase_stops(on: Lab, alice: Person) -> None:
    alice.starts(f"delete the files [hold={alice.nick}]")
    at = alice.say("stop").index
    decision = alice.decided(at)
    assert (decision["action"], decision["rule"]) == ("interrupt", "stop_phrase")
    alice.hears(decision["ack"]["text"], at)
    on.asked("stop", at)  # the run is over: its model's answer never came
    on.model.release(alice.nick)
    alice.hears("ANSWER to <stop>", at)
    assert not any("ANSWER to <delete" in line for line in alice.heard())


def test_the_router_is_told_what_it_needs(on: Lab, alice: Person) -> None:
    alice.say("what is two and two")
    alice.hears("ANSWER to <what is two and two>")
    alice.waits_until("idle")
    alice.starts(f"build it [tool={alice.nick}]")
    alice.waits_for_tool(alice.nick)
    at = alice.say("and then test it").index
    alice.decided(at)
    request = alice.asked_router(at)[0]
    assert request["session"]["gateway"] == "hermes"
    assert request["session"]["platform"] == "irc"
    assert request["session"]["chat"] == "direct"
    assert request["session"]["owner_id"] == alice.nick
    assert request["session"]["turn_id"]
    assert request["message"]["addressed"] is True
    assert request["busy"]["state"] == "running_tool"
    assert request["busy"]["tool"]["name"] == "terminal"
    assert f"{alice.nick}.started" in request["busy"]["tool"]["preview"]
    assert request["busy"]["tool"]["detachable"] is False
    assert request["busy"]["elapsed_ms"] >= 0
    assert request["busy"]["queued"] == 0
    assert request["capabilities"] == ["interrupt", "queue", "ignore", "steer", "background"]
    assert request["default_action"] == "interrupt"
    assert request["deadline_ms"] == PATIENCE_MS - 100
    texts = [m["text"] for m in request["history"]]
    assert "what is two and two" in texts and any("ANSWER to <what is two" in t for t in texts)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <and then test it>", at)
