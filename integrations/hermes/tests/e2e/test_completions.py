"""Results of background tasks, with `completions: true`. The answers of the endpoint are scripted where they differ by rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .harness.gateway import Lab
from .harness.timeline import Entry


@pytest.fixture(scope="module")
def asking(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_lab(settings={"completions": True})
    yield lab
    lab.close()


def background(lab: Lab, nick: str, answer: dict[str, Any] | int | None) -> int:
    assert lab.link is not None
    lab.link.completion = answer
    person = lab.person(nick)
    person.starts(f"copy the files [hold={nick}]")
    at = person.say("the weather {background}").index
    assert person.decided(at)["action"] == "background"
    lab.timeline.wait(is_about_a_task, "a question about the task", at)
    return at


def is_about_a_task(entry: Entry) -> bool:
    return (entry.who, entry.what) == ("ROUTER", "asked") and "task" in entry.data["request"]


def test_a_busy_parent_hears_of_it_as_its_next_turn(asking: Lab) -> None:
    at = background(asking, "mia", {"delivery": "parent_queue", "wake": False, "duplicate": False})
    question = next(e.data["request"] for e in asking.timeline.entries(since=at) if is_about_a_task(e))
    assert question["task"]["status"] == "completed"
    assert "ANSWER to <the weather {background}>" in question["task"]["summary"]
    assert question["origin"]["chat"] == "direct"
    assert question["parent"]["exists"] is True
    asking.model.release("mia")
    asking.person("mia").hears("ANSWER to <copy the files", at)
    told = asking.timeline.wait(
        lambda e: e.who == "MODEL" and e.what == "asked" and "has ended" in str(e.data["messages"][-1].get("content")), "told", at
    )
    assert "the weather" in str(told.data["messages"][-1]["content"])


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
        asking.timeline.wait(is_about_a_task, "a question about the task", at).index,
    )
