"""Without a decision of the router, Hermes with the plugin is Hermes: the same words in the same order, seen from outside."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from .harness.gateway import Lab, Person


def chat_of_gus(gus: Person) -> None:
    """A message that interrupts."""
    gus.say("hello there")
    gus.hears("ANSWER to <hello there>")
    gus.waits_until("idle")

    gus.starts("copy the files [hold=p1]")
    at = gus.say("no, move them").index
    gus.hears("ANSWER to <no, move them>", at)
    gus.waits_until("idle")
    gus.lab.model.release("p1")


def chat_of_hal(hal: Person) -> None:
    """Side and queue commands."""
    hal.starts("copy the files [hold=p2]")
    at = hal.say("/queue list them").index
    hal.hears("Queued", at)
    at = hal.say("/background the weather [hold=p7]").index
    hal.hears("You can keep chatting", at)  # the notice has several lines; the result must not come between them
    hal.lab.model.release("p7")
    hal.hears("ANSWER to <the weather", at)
    hal.lab.model.release("p2")
    hal.hears("ANSWER to <list them>", at)
    hal.waits_until("idle")


def chat_of_ida(ida: Person) -> None:
    """An unknown command, and stop."""
    ida.starts("copy the files [hold=p3]")
    at = ida.say("/foobar hello").index
    ida.hears("ANSWER to </foobar hello>", at)
    ida.waits_until("idle")
    ida.lab.model.release("p3")
    ida.starts("copy the files again [hold=p4]")
    at = ida.say("/stop").index
    ida.hears("Stopped", at)
    ida.waits_until("idle")
    ida.lab.model.release("p4")


def chat_of_lou(lou: Person) -> None:
    """Stop with a queue."""
    lou.starts("copy the files [hold=p6]")
    at = lou.say("/queue list them").index
    lou.hears("Queued", at)
    at = lou.say("/queue count them").index
    lou.hears("(2 queued)", at)
    log = lou.lab.log_size()
    with lou.slow_to_confirm():  # else it is a matter of luck how far the second gets
        at = lou.say("/stop").index
        lou.hears("Stopped", at)
        lou.lab.asked("count them", at)
        lou.lab.wait_discarded("lou", log)
    lou.waits_until("idle")
    lou.lab.model.release("p6")


def chat_of_jan(jan: Person) -> None:
    """An approval and a question."""
    at = jan.say("clean up [danger] [last=p8]").index
    jan.hears("or /deny to cancel", at)  # the last of several lines
    at = jan.say("yes").index
    jan.hears("approved", at)
    jan.lab.model.release("p8")
    jan.hears("ANSWER to <clean up", at)
    jan.waits_until("idle")
    at = jan.say("paint it [clarify]").index
    jan.hears("Reply with the number", at)
    at = jan.say("blue").index
    jan.hears("ANSWER to <paint it", at)
    jan.waits_until("idle")


def chat_of_kim(kim: Person) -> None:
    """A picture."""
    kim.starts("copy the files [hold=p5]")
    at = kim.say("@photo what is this").index
    kim.hears("ANSWER to", at)
    kim.waits_until("idle")
    kim.lab.model.release("p5")


CHATS = {"gus": chat_of_gus, "hal": chat_of_hal, "ida": chat_of_ida, "lou": chat_of_lou, "jan": chat_of_jan, "kim": chat_of_kim}


def script(lab: Lab) -> list[str]:
    """Some of everything that the plugin touches, side by side: each chat is a session of its own. Returns what people saw
    and what the model was asked."""
    start = lab.timeline.mark()
    with ThreadPoolExecutor(len(CHATS)) as pool:
        for chat in [pool.submit(talk, lab.person(nick)) for nick, talk in CHATS.items()]:
            chat.result()
    return transcript(lab, start)


def transcript(lab: Lab, start: int) -> list[str]:
    """One list a chat, because chats do not wait for each other."""
    lines = []
    for nick in CHATS:
        lines += [f"{nick} < {normal(line)}" for line in lab.person(nick).heard(start)]
    asked = sorted(normal(e.text) for e in lab.timeline.entries("MODEL", "asked", start))
    return lines + [f"model < {text}" for text in asked]


def normal(text: str) -> str:
    text = re.sub(r"bg_\d+_[0-9a-f]+", "bg_ID", text)
    text = re.sub(r"\d+ min elapsed, ", "", text)
    return re.sub(r"/\S*/scratch/", "SCRATCH/", text)


@pytest.fixture(scope="module")
def without(stock: Lab) -> list[str]:
    return script(stock)


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("installed, not enabled", {"plugin": "disabled", "router_mode": None}),
        ("enabled without an address", {"plugin": "unset", "router_mode": None}),
        ("router in mode off", {"router_mode": "off"}),
        ("router in mode shadow", {"router_mode": "shadow"}),
        ("router dead", {"settings": {"breaker_open_s": 600}}),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_same_as_without_the_plugin(
    make_lab: Callable[..., Lab], without: list[str], what: str, options: dict[str, object]
) -> None:
    lab = make_lab(**options)
    if what == "router dead":
        assert lab.link is not None
        lab.link.die()
    assert script(lab) == without
    if what == "router in mode shadow":
        answers = [e.data["answer"] for e in lab.timeline.entries("ROUTER", "decided")]
        assert answers and all(a["mode"] == "shadow" and a["action"] == "pass_through" for a in answers)
        assert {a["shadow"]["action"] for a in answers} >= {"queue", "pass_through"}, "what `on` would have done is there to see"
    lab.close()
