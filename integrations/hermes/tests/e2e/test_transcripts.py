"""Two conversations, stock and with the router, as people saw them.

They belong to Hermes issues 6827 (slash commands while a run is under way) and 11639 (a small router for busy messages).
With `TRANSCRIPTS=FOLDER` they are written there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .harness.gateway import Lab, Person

CONVERSATIONS = {
    "hermes-6827": [
        "copy the photos [hold=NAME]",
        "/background what is the weather like",
        "/foobar hello",
        "/queue list them",
        "/queue count them",
        "/stop",
    ],
    "hermes-11639": [
        "copy the photos [hold=NAME]",
        "thanks",
        "then list them",
        "then list them",
        "no, move them {interrupt} [hold=NAMEb]",
        "stop",
    ],
}


def converse(person: Person, lines: list[str]) -> str:
    lab = person.lab
    start = lab.timeline.mark()
    for line in lines:
        person.say(line.replace("NAME", person.nick))
        lab.timeline.wait_quiet(1.0)
    for hold in (person.nick, f"{person.nick}b"):
        lab.model.release(hold)
    lab.timeline.wait_quiet(1.5)
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
    text = converse(stock_alice, CONVERSATIONS[conversation])
    keep(f"{conversation}-stock", text)
    if conversation == "hermes-6827":
        assert "(the model reads: /foobar hello)" in text
    else:
        assert "(the model reads: thanks)" in text
        assert text.count("(the model reads: then list them)") == 2


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_routed_conversation(on: Lab, alice: Person, conversation: str) -> None:
    text = converse(alice, CONVERSATIONS[conversation])
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
