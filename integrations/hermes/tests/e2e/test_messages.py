"""Messages of all kinds: repeated, in bursts, with pictures, from several people, and on path 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .harness.gateway import Lab, Person


def test_a_repeated_message_is_answered_once(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("then list them").index
    assert alice.decided(at)["action"] == "queue"
    again = alice.say("then list them").index
    decision = alice.decided(again)
    assert (decision["action"], decision["rule"]) == ("ignore", "duplicate")
    on.model.release(alice.nick)
    alice.hears("ANSWER to <then list them>", at)
    alice.say("and done")
    alice.hears("ANSWER to <and done>", at)
    assert len([line for line in alice.heard(at) if "ANSWER to <then list them>" in line]) == 1


def test_a_burst_keeps_its_order_and_loses_nothing(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = on.timeline.mark()
    texts = [f"part {n} of {alice.nick}" for n in range(8)]
    on.irc.say_at_once(alice.nick, texts)
    alice.decisions(at, len(texts))
    on.model.release(alice.nick)
    alice.hears(f"ANSWER to <{texts[-1]}>", at)
    answers = [line for line in alice.heard(at) if line.startswith("ANSWER to <part")]
    assert answers == [f"ANSWER to <{text}>" for text in texts]
    # IRC makes message ids from the clock; a burst shares them, and the router must not take one message for another.
    ids = [request["message"]["id"] for request in alice.asked_router(at)]
    assert len(set(ids)) == len(ids)


def test_interrupts_in_a_burst_keep_their_order_ahead_of_the_queue(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = on.timeline.mark()
    on.irc.say_at_once(alice.nick, ["later one", "first of all {interrupt}"])
    alice.hears("ANSWER to <later one>", at)
    order = [line for line in alice.heard(at) if line.startswith("ANSWER")]
    assert order == ["ANSWER to <first of all {interrupt}>", "ANSWER to <later one>"]
    on.model.release(alice.nick)


def test_a_photo_without_words_waits(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@photo").index
    decision = alice.decided(at)
    assert (decision["action"], decision["rule"]) == ("queue", "media")
    assert alice.asked_router(at)[0]["message"]["media"] == [{"kind": "photo"}]
    on.model.release(alice.nick)
    first = alice.hears("ANSWER to <copy the files", at)
    alice.hears("ANSWER to", first.index + 1)


def test_the_words_of_a_photo_decide(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@photo not these, those {interrupt}").index
    assert alice.decided(at)["action"] == "interrupt"
    on.asked("not these, those", at)
    on.model.release(alice.nick)
    alice.hears("ANSWER to", at)
    assert not any("ANSWER to <copy the files" in line for line in alice.heard(at))


def test_a_series_of_pictures_is_one(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@album trip look at these").index
    first = alice.decided(at)
    assert first["action"] == "queue"
    second = alice.say("@album trip").index
    assert alice.decided(second)["action"] == "queue"
    assert alice.asked_router(second)[0]["message"]["media"] == [{"kind": "photo", "album_id": "trip"}]
    on.model.release(alice.nick)
    asked = on.asked("look at these", second)
    assert asked
    alice.hears("ANSWER to", at)


def test_an_empty_message_does_nothing(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@empty").index
    decision = alice.decided(at)
    assert (decision["action"], decision["rule"]) == ("ignore", "empty")
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)


# --- path 2: the runner is busy, the adapter does not know it --------------------------------------------------------


def test_path_2_queue(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@unguarded then list them").index
    decision = alice.decided(at)
    assert decision["action"] == "queue"
    alice.hears(decision["ack"]["text"], at)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)
    alice.hears("ANSWER to <then list them>", at)


def test_path_2_interrupt(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@unguarded move them {interrupt}").index
    assert alice.decided(at)["action"] == "interrupt"
    alice.hears("ANSWER to <move them {interrupt}>", at)
    on.model.release(alice.nick)
    assert not any("ANSWER to <copy the files" in line for line in alice.heard(at))


def test_path_2_ignore(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@unguarded thanks").index
    assert alice.decided(at)["action"] == "ignore"
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)


def test_path_2_steer(on: Lab, alice: Person) -> None:
    alice.starts(f"build it [tool={alice.nick}]")
    alice.waits_for_tool(alice.nick)
    at = alice.say("@unguarded in release mode {steer}").index
    assert alice.decided(at)["action"] == "steer"
    on.model.release(alice.nick)
    on.timeline.wait(lambda e: e.who == "MODEL" and any("in release mode" in r for r in e.data.get("results", [])), "steered", at)
    alice.hears("ANSWER to <build it", at)


def test_path_2_background(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@unguarded the weather {background}").index
    assert alice.decided(at)["action"] == "background"
    alice.hears("ANSWER to <the weather {background}>", at)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)


def test_path_2_unknown_command(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@unguarded /foobar hello").index
    assert alice.decided(at)["rule"] == "unknown_command"
    on.model.release(alice.nick)
    alice.hears("Unknown command", at)
    assert not any("/foobar" in e.text for e in on.timeline.entries("MODEL", "asked", at))


# --- groups with a shared session ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def group(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """One session for the whole channel, and queueing as Hermes's own mode."""
    lab = make_lab(busy_mode="queue", config={"group_sessions_per_user": False})
    yield lab
    lab.close()


def test_another_member_does_not_end_the_run(group: Lab) -> None:
    ann, bob = group.person("ann").in_channel(), group.person("bob").in_channel()
    ann.starts("copy the files [hold=group1]")
    at = bob.say("and what about the pictures").index
    assert bob.decided(at)["action"] == "queue"
    request = bob.asked_router(at)[0]
    assert request["session"]["chat"] == "group"
    assert request["session"]["owner_id"] == "ann"
    assert request["message"]["sender_id"] == "bob"
    assert request["default_action"] == "queue"
    group.model.release("group1")
    ann.hears("ANSWER to <", at)
    ann.hears("and what about the pictures>", at)
    ann.waits_until("idle")


def test_the_owner_of_a_queued_turn_is_who_asked_for_it(group: Lab) -> None:
    ann, bob = group.person("ann").in_channel(), group.person("bob").in_channel()
    ann.starts("copy the files [hold=group2]")
    at = bob.say("then count them [hold=group3]").index
    bob.decided(at)
    group.model.release("group2")
    group.asked("then count them [hold=group3]", at)
    later = ann.say("and then sort them").index
    ann.decided(later)
    assert ann.asked_router(later)[0]["session"]["owner_id"] == "bob"
    group.model.release("group3")
    ann.hears("and then sort them>", later)
    ann.waits_until("idle")


def test_talk_between_people_is_not_for_the_agent(group: Lab) -> None:
    ann, bob = group.person("ann").in_channel(), group.person("bob").in_channel()
    ann.starts("copy the files [hold=group4]")
    at = bob.say("@unaddressed stop").index
    decision = bob.decided(at)
    assert decision["action"] != "interrupt"
    assert bob.asked_router(at)[0]["message"]["addressed"] is False
    second = bob.say("stop").index
    assert bob.decided(second)["action"] == "interrupt"
    ann.hears("ANSWER to", second)  # of the next turn: the first is not let go
    ann.waits_until("idle")
    group.model.release("group4")
    assert not any("copy the files [hold=group4]>" in line for line in ann.heard(at))
