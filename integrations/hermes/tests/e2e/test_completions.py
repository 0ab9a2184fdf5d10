"""Results of background tasks, with `completions: true`. The answers of the endpoint are scripted where they differ by rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .harness.gateway import Lab


@pytest.fixture(scope="module")
def asking(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(settings={"completions": True})


def background(lab: Lab, nick: str, answer: dict[str, Any] | int | None) -> int:
    assert lab.link is not None
    lab.link.completion = answer
    person = lab.person(nick)
    person.starts(f"copy the files [hold={nick}]")
    at = person.say("the weather {background}").index
    assert person.decided(at)["action"] == "background"
    lab.wait("ROUTER", "asked", "", lab.wait("ROUTER", "decided", "background", at).index)
    return at


def test_a_busy_parent_hears_of_it_as_its_next_turn(asking: Lab) -> None:
    at = background(asking, "mia", {"delivery": "parent_queue", "wake": False, "duplicate": False})
    question = next(e.data["request"] for e in asking.timeline.entries("ROUTER", "asked", at) if "task" in e.data["request"])
    assert question["task"]["status"] == "completed"
    assert "ANSWER to <the weather {background}>" in question["task"]["summary"]
    assert question["origin"]["chat"] == "direct"
    assert question["parent"]["exists"] is True
    asking.model.release("mia")
    asking.person("mia").hears("ANSWER to <copy the files", at)
    told = asking.wait("MODEL", "asked", "", asking.wait("MODEL", "answered", "copy the files", at).index)
    assert any("the weather" in str(m.get("content")) and "has ended" in str(m.get("content")) for m in told.data["messages"])


def test_a_marker_goes_to_the_chat(asking: Lab) -> None:
    at = background(asking, "noa", {"delivery": "marker", "marker": {"text": "Task bg_1: completed"}, "duplicate": False})
    asking.person("noa").hears("Task bg_1: completed", at)
    asking.model.release("noa")
    asking.person("noa").hears("ANSWER to <copy the files", at)
    assert not any("Background task complete" in line for line in asking.person("noa").heard(at))


@pytest.mark.parametrize("failure", [404, 500])
def test_without_an_answer_hermes_delivers(asking: Lab, failure: int) -> None:
    nick = f"ole{failure}"
    at = background(asking, nick, failure)
    asking.person(nick).hears("Background task complete", at)
    asking.model.release(nick)


def test_the_real_endpoint(asking: Lab) -> None:
    """Whatever this router answers, the result is not lost."""
    at = background(asking, "pia", None)
    asking.model.release("pia")
    asking.timeline.wait(
        lambda e: (
            (e.who == "BOT" and e.data.get("to") == "pia" and "ackground task" in e.text)
            or (e.who == "MODEL" and e.what == "asked" and "the weather" in str(e.data["messages"][-1].get("content")))
        ),
        "the result, in the chat or in a turn",
        asking.wait("ROUTER", "asked", "", asking.wait("ROUTER", "decided", "background", at).index).index,
    )
