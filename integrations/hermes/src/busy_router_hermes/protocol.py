"""The router's answer, parsed once into a type that cannot be wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ACTIONS = frozenset({"pass_through", "dispatch", "interrupt", "queue", "ignore", "steer", "background", "ask", "detach"})


class InvalidAnswer(ValueError):
    """The body is not a decision. Nothing of it is used."""


@dataclass(frozen=True)
class Command:
    name: str
    args: str
    lane: str

    @property
    def text(self) -> str:
        """The command as Hermes reads it, whatever prefix, case or white space the user typed."""
        return f"/{self.name} {self.args}".rstrip()


@dataclass(frozen=True)
class Decision:
    decision_id: str
    action: str
    rule: str = ""
    decided_by: str = ""
    mode: str = "on"
    command: Command | None = None
    ack: str | None = None
    replayed: bool = False
    would: str = ""
    """In shadow mode: what would be done in mode `on`. Only to be logged."""

    @property
    def acts(self) -> bool:
        """False where the gateway does what it would do without the router: mode off and shadow, and `pass_through`.

        The mode is looked at as well as the action, so that no answer in shadow mode can change anything.
        """
        return self.mode == "on" and self.action != "pass_through"


def parse_decision(body: bytes) -> Decision:
    answer = parse_object(body)
    action = answer.get("action")
    if not isinstance(action, str) or action not in ACTIONS:
        raise InvalidAnswer("no known action in the answer")
    ack = answer.get("ack")
    ack_text = ack.get("text") if isinstance(ack, Mapping) else None
    return Decision(
        decision_id=_text(answer, "decision_id"),
        action=action,
        rule=_text(answer, "rule"),
        decided_by=_text(answer, "decided_by"),
        mode=_text(answer, "mode") or "on",
        command=_command(answer.get("command")),
        ack=ack_text if isinstance(ack_text, str) and ack_text.strip() else None,
        replayed=answer.get("replayed") is True,
        would=_would(answer.get("shadow")),
    )


def parse_object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        raise InvalidAnswer("the answer is not JSON") from None
    if not isinstance(answer, dict):
        raise InvalidAnswer("the answer is not an object")
    return answer


def _would(shadow: Any) -> str:
    return f"pass_through, would {_text(shadow, 'action')} ({_text(shadow, 'rule')})," if isinstance(shadow, Mapping) else ""


def _text(answer: Mapping[str, Any], key: str) -> str:
    value = answer.get(key)
    return value if isinstance(value, str) else ""


def _command(value: Any) -> Command | None:
    if not isinstance(value, Mapping):
        return None
    name = _text(value, "name").lower()
    return Command(name, _text(value, "args"), _text(value, "lane")) if name else None
