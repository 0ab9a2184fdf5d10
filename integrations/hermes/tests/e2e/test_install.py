"""The other way to install it: the folder itself, as a plugin directory."""

from __future__ import annotations

from collections.abc import Callable

from .harness.gateway import Lab


def test_the_folder_works_as_a_plugin_directory(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(directory=True)
    quin = lab.person("quin")
    quin.starts("copy the files [hold=quin]")
    at = quin.say("then list them").index
    decision = quin.decided(at)
    assert decision["action"] == "queue"
    quin.hears(decision["ack"]["text"], at)
    lab.model.release("quin")
    quin.hears("ANSWER to <then list them>", at)
    lab.close()
