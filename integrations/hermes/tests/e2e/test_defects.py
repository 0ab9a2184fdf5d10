"""What goes wrong in stock Hermes 0.19.0, each beside the same thing with the router. The README's table is made of these.

The stock half keeps the table honest: when a later Hermes mends one, it fails, and the table is to be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .harness.gateway import Lab, Person

INTERRUPTING = "⚡ Interrupting current task"


# 1. A message that arrives while the agent is being set up is said to interrupt; nothing is interrupted.


def send_two_at_once(person: Person, second: str) -> int:
    at = person.lab.timeline.mark()
    person.lab.irc.say_at_once(person.nick, [f"copy the files [hold={person.nick}]", second])
    return at


def test_1_stock(stock: Lab, stock_alice: Person) -> None:
    at = send_two_at_once(stock_alice, "and list them")
    stock_alice.hears(INTERRUPTING, at)
    stock.asked("copy the files", at)
    stock.model.release(stock_alice.nick)
    stock_alice.hears("ANSWER to <copy the files", at)  # so much for the interruption
    stock_alice.hears("ANSWER to <and list them>", at)


def test_1_router_says_queued(on: Lab, alice: Person) -> None:
    at = send_two_at_once(alice, "and list them {interrupt}")
    decision = alice.decided(at)
    assert decision["action"] == "queue"
    alice.hears(decision["ack"]["text"], at)
    on.asked("copy the files", at)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)
    alice.hears("ANSWER to <and list them", at)


def test_1_router_stops_as_soon_as_it_can(on: Lab, alice: Person) -> None:
    at = send_two_at_once(alice, "stop")
    decision = alice.decided(at)
    assert (decision["action"], decision["rule"]) == ("interrupt", "stop_phrase")
    alice.hears(decision["ack"]["text"], at)
    alice.hears("ANSWER to <stop>", at)  # and the first model call was never released
    on.model.release(alice.nick)
    assert not any("ANSWER to <copy the files" in line for line in alice.heard(at))


# 2. One cool-down a session for all acknowledgements: after one, an interrupt is silent.


def test_2_stock(stock: Lab, stock_alice: Person) -> None:
    stock_alice.starts(f"copy the files [hold={stock_alice.nick}]")
    at = stock_alice.say(f"move them [hold={stock_alice.nick}]").index
    stock_alice.hears(INTERRUPTING, at)
    stock.asked("move them", at)
    later = stock_alice.say("no, link them").index
    stock_alice.hears("ANSWER to <no, link them>", later)
    assert not any(INTERRUPTING in line for line in stock_alice.heard(later))
    stock.model.release(stock_alice.nick)


def test_2_router(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("then list them").index
    queued = alice.decided(at)
    alice.hears(queued["ack"]["text"], at)
    later = alice.say("no, link them {interrupt}").index
    interrupted = alice.decided(later)
    assert interrupted["ack"]["text"] != queued["ack"]["text"]
    alice.hears(interrupted["ack"]["text"], later)
    on.model.release(alice.nick)


# 3. An interrupting message goes behind what was queued before it.


def test_3_stock(stock: Lab, stock_alice: Person) -> None:
    stock_alice.starts(f"copy the files [hold={stock_alice.nick}]")
    at = stock_alice.say("/queue later").index
    stock_alice.hears("Queued", at)
    stock_alice.say("now")
    first = stock_alice.hears("ANSWER to <later>", at)
    second = stock_alice.hears("ANSWER to <now>", at)
    assert first.index < second.index
    stock.model.release(stock_alice.nick)


def test_3_router(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("/queue later").index
    alice.hears("Queued", at)
    alice.say("now {interrupt}")
    second = alice.hears("ANSWER to <later>", at)
    first = alice.hears("ANSWER to <now {interrupt}>", at)
    assert first.index < second.index
    on.model.release(alice.nick)


# 4. `/stop` drops only the first of the queue.


def test_4_stock(stock: Lab, stock_alice: Person) -> None:
    stock_alice.starts(f"copy the files [hold={stock_alice.nick}]")
    at = stock_alice.say("/queue list them").index
    stock_alice.hears("Queued", at)
    second = stock_alice.say("/queue count them").index
    stock_alice.hears("(2 queued)", second)
    # Hermes cancels what it still knows of the run when the platform has confirmed "Stopped". As a rule the next turn is under
    # way by then; with a platform that takes its time it always is.
    log = stock.log_size()
    with stock_alice.slow_to_confirm():
        third = stock_alice.say("/stop").index
        stock_alice.hears("Stopped", third)
        stock.asked("count them", third)
        stock.wait_discarded(stock_alice.nick, log)
    stock_alice.waits_until("idle")
    stock_alice.say("still there?")
    stock_alice.hears("ANSWER to <still there?>", third)
    assert not any("list them" in e.text for e in stock.timeline.entries("MODEL", "asked", third))
    assert not any("count them" in line for line in stock_alice.heard(third)), "the model has read it, the user hears nothing"


def test_4_router(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    alice.decided(alice.say("thanks").index)  # by now the plugin knows that the router decides
    at = alice.say("/queue list them").index
    alice.hears("Queued", at)
    second = alice.say("/queue count them").index
    alice.hears("(2 queued)", second)
    third = alice.say("/stop").index
    alice.hears("Stopped", third)
    alice.hears("Dropped 2 queued messages", third)
    alice.waits_until("idle")
    on.model.release(alice.nick)
    alice.say("still there?")
    alice.hears("ANSWER to <still there?>", third)
    assert not any("count them" in e.text or "list them" in e.text for e in on.timeline.entries("MODEL", "asked", third))


# 5. An unknown command interrupts, and the model reads it.


def test_5_stock(stock: Lab, stock_alice: Person) -> None:
    stock_alice.starts(f"copy the files [hold={stock_alice.nick}]")
    at = stock_alice.say("/foobar hello").index
    stock_alice.hears(INTERRUPTING, at)
    stock.asked("/foobar hello", at)
    stock.model.release(stock_alice.nick)


def test_5_router(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("/foobar hello").index
    assert alice.decided(at)["action"] == "queue"
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)
    alice.hears("Unknown command `/foobar`".replace("`", ""), at)
    assert not any("/foobar" in e.text for e in on.timeline.entries("MODEL", "asked", at))


# 6. The same text twice interrupts twice, and the model reads both: the second ends the answer to the first.


def test_6_stock(stock: Lab, stock_alice: Person) -> None:
    stock_alice.starts(f"copy the rest [hold={stock_alice.nick}]")
    text = f"sort them [hold={stock_alice.nick}b]"
    # As an impatient user says it, or a client that retries sends it. Not in one packet: when the second interrupt comes, the
    # first may have been read, answered or neither, and so there may be one answer or two.
    first = stock_alice.say(text).index
    stock.asked(text, first)
    second = stock_alice.say(text).index
    read = stock.asked(text, second)  # although nobody has let go of the first answer
    assert [m["content"].count(text) for m in read.data["messages"] if m["role"] == "user"] == [2]
    stock.model.release(f"{stock_alice.nick}b")
    stock_alice.hears(f"ANSWER to <{text}>", second)
    stock_alice.waits_until("idle")
    assert stock_alice.heard(first).count(f"ANSWER to <{text}>") == 1


def test_6_router(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the rest [hold={alice.nick}]")
    at = on.timeline.mark()
    on.irc.say_at_once(alice.nick, ["sort them", "sort them"])
    alice.decisions(at, 2)
    on.model.release(alice.nick)
    alice.hears("ANSWER to <sort them>", at)
    alice.say("is that all")
    alice.hears("ANSWER to <is that all>", at)
    assert [line for line in alice.heard(at) if "sort them" in line] == ["ANSWER to <sort them>"]


# 7. A photo interrupts.


def test_7_stock(stock: Lab, stock_alice: Person) -> None:
    stock_alice.starts(f"copy the files [hold={stock_alice.nick}]")
    at = stock_alice.say("@photo").index
    stock_alice.hears(INTERRUPTING, at)
    stock_alice.hears("ANSWER to", at)  # although nobody has let go of the first answer
    assert not any("ANSWER to <copy the files" in line for line in stock_alice.heard(at))


def test_7_router(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@photo").index
    assert alice.decided(at)["action"] == "queue"
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)


# 8. A message without text interrupts.


def test_8_stock(stock: Lab, stock_alice: Person) -> None:
    stock_alice.starts(f"copy the files [hold={stock_alice.nick}]")
    at = stock_alice.say("@empty").index
    stock_alice.hears(INTERRUPTING, at)
    stock.asked("copy the files", at)  # a turn of its own, of nothing, although nobody has let go of the first answer


def test_8_router(on: Lab, alice: Person) -> None:
    alice.starts(f"copy the files [hold={alice.nick}]")
    at = alice.say("@empty").index
    assert alice.decided(at)["action"] == "ignore"
    on.model.release(alice.nick)
    alice.hears("ANSWER to <copy the files", at)
    assert not any(INTERRUPTING in line for line in alice.heard(at))


# 9. Another question while an approval is pending refuses it.


def test_9_stock(stock: Lab, stock_alice: Person) -> None:
    at = stock_alice.say("clean up [danger]").index
    stock_alice.hears("requires approval", at)
    later = stock_alice.say("what is the weather like").index
    stock_alice.hears(INTERRUPTING, later)
    stock_alice.hears("ANSWER to <what is the weather like>", later)
    last = stock_alice.say("/approve").index
    stock_alice.hears("No pending command", last)


def test_9_router(on: Lab, alice: Person) -> None:
    at = alice.say("clean up [danger]").index
    alice.hears("requires approval", at)
    later = alice.say("what is the weather like").index
    assert alice.decided(later)["action"] == "queue"
    alice.say("/approve")
    alice.hears("ANSWER to <clean up", later)
    alice.hears("ANSWER to <what is the weather like>", later)


# 10. In queue mode nobody is told anything.


@pytest.fixture(scope="module")
def stock_queue(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_lab(plugin="absent", router_mode=None, busy_mode="queue")
    yield lab
    lab.close()


def test_10_stock(stock_queue: Lab) -> None:
    lea = stock_queue.person("lea")
    lea.starts("copy the files [hold=lea]")
    at = lea.say("then list them").index
    status = lea.say("/status").index
    lea.hears("Status", status)  # by now an acknowledgement would have come
    stock_queue.model.release("lea")
    first = lea.hears("ANSWER to <copy the files", at)
    lea.hears("ANSWER to <then list them>", at)
    said = [line for line in lea.heard(at)[: lea.heard(at).index(first.text)] if "ueued" in line]
    assert said == []


def test_10_router(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(busy_mode="queue")
    lea = lab.person("lea")
    lea.starts("copy the files [hold=lea]")
    at = lea.say("then list them").index
    decision = lea.decided(at)
    assert decision["action"] == "queue"
    lea.hears(decision["ack"]["text"], at)
    lab.model.release("lea")
    lea.hears("ANSWER to <then list them>", at)
    lab.close()


# 11. Of five or more queued messages one is lost.


def queue_many(person: Person, sends: Callable[[str], None]) -> list[str]:
    person.starts(f"copy the files [hold={person.nick}]")
    at = person.lab.timeline.mark()
    for n in range(7):
        sends(f"part {n}")
    person.lab.model.release(person.nick)
    person.hears("ANSWER to <part 6>", at)
    return [line for line in person.heard(at) if line.startswith("ANSWER to <part")]


def test_11_stock(stock: Lab, stock_alice: Person) -> None:
    def send(text: str) -> None:
        at = stock_alice.say(f"/queue {text}").index
        stock_alice.hears("Queued", at)

    assert len(queue_many(stock_alice, send)) < 7


def test_11_router(on: Lab, alice: Person) -> None:
    def send(text: str) -> None:
        alice.decided(alice.say(text).index)

    assert queue_many(alice, send) == [f"ANSWER to <part {n}>" for n in range(7)]
