"""Two conversations, stock and with the router, as people saw them.

They belong to Hermes issues 6827 (slash commands while a run is under way) and 11639 (a small router for busy messages).
With `TRANSCRIPTS=FOLDER` they are written there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .harness.gateway import Lab, Person

READ = "(the model reads it)"
IDLE = "(the run is over)"
DECIDED = "(the router has decided)"

# What is said, and what is waited for before the next is said: words that the user hears, or one of the above. First of stock
# Hermes, then with the router.
CONVERSATIONS = {
    "hermes-6827": [
        ("copy the photos [hold=NAME]", [READ], [READ]),
        ("/background what is the weather like", ["ANSWER to <what"], ["ANSWER to <what"]),
        ("/foobar hello", ["ANSWER to </foobar", IDLE], [DECIDED, "Got it."]),
        ("/queue list them", ["ANSWER to <list", IDLE], ["Queued"]),
        ("/queue count them", ["ANSWER to <count", IDLE], ["(2 queued)"]),
        ("/stop", ["No active task"], ["Stopped", "Dropped 3", IDLE]),
    ],
    "hermes-11639": [
        ("copy the photos [hold=NAME]", [READ], [READ]),
        ("thanks", ["ANSWER to <thanks", IDLE], [DECIDED]),
        ("then list them", ["ANSWER to <then list", IDLE], [DECIDED, "Got it."]),
        ("then list them", ["ANSWER to <then list", IDLE], [DECIDED]),
        ("no, move them {interrupt} [hold=NAMEb]", [READ], [DECIDED, READ]),
        ("stop", ["ANSWER to <stop", IDLE], [DECIDED, "ANSWER to <stop", "ANSWER to <then list", IDLE]),
    ],
}


def converse(person: Person, conversation: str, routed: bool) -> str:
    start = person.lab.timeline.mark()
    for line, stock_steps, routed_steps in CONVERSATIONS[conversation]:
        line = line.replace("NAME", person.nick)
        at = person.say(line).index
        for step in routed_steps if routed else stock_steps:
            if step == READ:
                person.lab.asked(line, at)
                person.waits_until("running")
            elif step == IDLE:
                person.waits_until("idle")
            elif step == DECIDED:
                person.decided(at)
            else:
                person.hears(step, at)
    return render(person, start)


def render(person: Person, start: int) -> str:
    shown = []
    for entry in person.lab.timeline.entries(since=start):
        text = entry.text.replace(f"[hold={person.nick}]", "[…]").replace(f"[hold={person.nick}b]", "[…]")
        if entry.who == person.nick:
            shown.append(f"user    {text}")
        elif entry.who == "BOT" and entry.data["to"] == person.chat:
            shown.append(f"hermes  {text}")
        elif entry.who == "MODEL" and entry.what == "asked" and not entry.data["results"]:
            shown.append(f"          (the model reads: {text})")
        elif entry.who == "ROUTER" and entry.what == "decided":
            shown.append(f"          (the router says: {text})")
    return "\n".join(shown)


def keep(name: str, text: str) -> None:
    print(f"--- {name}\n{text}\n")
    if folder := os.environ.get("TRANSCRIPTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.txt").write_text(text + "\n")


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_stock_conversation(stock: Lab, stock_alice: Person, conversation: str) -> None:
    text = converse(stock_alice, conversation, routed=False)
    keep(f"{conversation}-stock", text)
    if conversation == "hermes-6827":
        assert "(the model reads: /foobar hello)" in text
    else:
        assert "(the model reads: thanks)" in text
        assert text.count("(the model reads: then list them)") == 2


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_routed_conversation(on: Lab, alice: Person, conversation: str) -> None:
    text = converse(alice, conversation, routed=True)
    keep(f"{conversation}-router", text)
    if conversation == "hermes-6827":
        assert "(the model reads: /foobar hello)" not in text
        assert "(the model reads: list them)" not in text and "(the model reads: count them)" not in text
        assert "Stopped" in text
    else:
        assert "(the model reads: thanks)" not in text
        assert text.count("(the model reads: then list them)") <= 1
        assert "(the router says: ignore (backchannel))" in text
        assert "(the router says: interrupt (stop_phrase))" in text
