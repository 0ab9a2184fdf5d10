"""Builds the router's request from a message and the state of its session."""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from . import hermes
from .observer import Observer, Owners, Turn

GATEWAY = "hermes"
CAPABILITIES = ("interrupt", "queue", "ignore", "steer", "background")

MAX_TEXT_BYTES = 32_768
_MAX_ID = 256
_MAX_QUESTION = 2_000
_MEDIA_KINDS = frozenset({"photo", "voice", "audio", "video", "document", "sticker", "location", "contact"})
_MIME_KINDS = {"image": "photo", "audio": "audio", "video": "video"}
_BOT_NAME_ATTRIBUTES = ("_current_nick", "_bot_username", "bot_username", "_bot_user_name")


class MessageIds:
    """Ids that tell messages apart.

    Some of Hermes's adapters (IRC) make the id from the clock, so that two messages of a burst share one, and the router would
    answer the second with the decision on the first. The same id with another text is another message.
    """

    def __init__(self, size: int = 2048) -> None:
        self._size = size
        self._seen: OrderedDict[tuple[str, str], list[str]] = OrderedDict()

    def unique(self, key: str, message_id: str | None, text: str) -> str | None:
        if not message_id:
            return None
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        texts = self._seen.setdefault((key, message_id), [])
        self._seen.move_to_end((key, message_id))
        while len(self._seen) > self._size:
            self._seen.popitem(last=False)
        if digest not in texts:
            texts.append(digest)
        nth = texts.index(digest)
        return message_id[:_MAX_ID] if nth == 0 else f"{message_id[: _MAX_ID - 8]}~{nth + 1}"


async def build(
    *,
    runner: Any,
    adapter: Any,
    event: Any,
    key: str,
    observer: Observer,
    owners: Owners,
    ids: MessageIds,
    waiting: int = 0,
    send_history: bool = True,
) -> dict[str, Any]:
    """The whole request but for the deadline, which is the client's. `waiting` counts messages that the plugin holds."""
    source = event.source
    text = event.text or ""
    agent = hermes.running_agent(runner, key)
    turn = observer.turn(getattr(agent, "session_id", None))
    request: dict[str, Any] = {
        "session": without_nothing(
            id=_session_id(key),
            gateway=GATEWAY,
            platform=_word(getattr(source, "platform", None)),
            chat=chat_kind(source),
            turn_id=_cut(hermes.turn_id(runner, key), _MAX_ID),
            owner_id=_cut(owners.of(key), _MAX_ID),
        ),
        "message": without_nothing(
            id=ids.unique(key, _text_or_none(event.message_id), text),
            text=cut_bytes(text, MAX_TEXT_BYTES),
            sender_id=_cut(_text_or_none(getattr(source, "user_id", None)), _MAX_ID),
            addressed=addressed(event, adapter),
            media=media(event) or None,
            reply_to=reply_to(event),
        ),
        "busy": await busy(runner, adapter, key, agent, turn, waiting),
        "capabilities": capabilities(runner, agent),
    }
    if send_history and turn.history:
        request["history"] = turn.history
    if default := hermes.default_action(runner, source):
        request["default_action"] = default
    return request


async def busy(runner: Any, adapter: Any, key: str, agent: Any, turn: Turn, waiting: int) -> dict[str, Any]:
    state, question = await state_of(runner, adapter, key, agent)
    fields: dict[str, Any] = {
        "state": state,
        "elapsed_ms": hermes.elapsed_ms(runner, key),
        "subagents": hermes.subagents(agent),
        "queued": len(hermes.queued(runner, adapter, key)) + waiting,
        "pending_question": _cut(question, _MAX_QUESTION) or None,
    }
    tool = hermes.activity(agent).get("current_tool") if agent is not None else None
    if tool:
        # Hermes 0.19 cannot move a tool that runs in the foreground to the background.
        fields["tool"] = without_nothing(name=str(tool)[:_MAX_ID], preview=turn.preview_of(str(tool)), detachable=False)
    return without_nothing(**fields)


async def state_of(runner: Any, adapter: Any, key: str, agent: Any) -> tuple[str, str | None]:
    """The run's state in the contract's words, and the question it waits on."""
    if not hermes.is_busy(runner, adapter, key):
        return "idle", None
    if hermes.is_draining(runner) or getattr(runner, "_external_drain_active", False) is True:
        return "draining", None
    if (question := hermes.pending_approval(key)) is not None:
        return "awaiting_approval", question
    if (question := hermes.pending_answer(runner, key)) is not None:
        return "awaiting_answer", question
    if agent is None:
        # Set up, or at its end: the answer is on its way to the chat, and there is nothing left to interrupt.
        return ("stopping" if hermes.run_has_ended(runner, adapter, key) else "starting"), None
    if await hermes.is_compacting(runner, key):
        return "compacting", None
    if getattr(agent, "_interrupt_requested", False) is True:
        return "stopping", None
    doing = hermes.activity(agent)
    if doing.get("current_tool"):
        return "running_tool", None
    if "receiving stream" in str(doing.get("last_activity_desc", "")):
        return "streaming", None
    return "thinking", None


def capabilities(runner: Any, agent: Any) -> list[str]:
    """What can be carried out on this Hermes, now."""
    lacking = set()
    if not hasattr(agent, "steer"):  # there is none yet, or none that can
        lacking.add("steer")
    if not hasattr(runner, "_handle_background_command"):
        lacking.add("background")
    return [name for name in CAPABILITIES if name not in lacking]


def chat_kind(source: Any) -> str:
    kind = str(getattr(source, "chat_type", "") or "dm").lower()
    if kind in ("dm", "direct", "private"):
        return "direct"
    if getattr(source, "thread_id", None) or kind in ("thread", "forum", "topic"):
        return "thread"
    return "channel" if kind == "channel" else "group"


def addressed(event: Any, adapter: Any) -> bool | None:
    """Whether the message is for the agent; None where the platform's adapter does not say."""
    source = event.source
    if chat_kind(source) == "direct" or getattr(event, "reply_to_is_own_message", False):
        return True
    for flag in ("addressed", "mentioned", "is_mention"):
        value = (getattr(event, "metadata", None) or {}).get(flag)
        if isinstance(value, bool):
            return value
    if _word(getattr(source, "platform", None)) == "irc":
        return True  # the adapter passes on only what is addressed, and cuts the name off
    for attribute in _BOT_NAME_ATTRIBUTES:
        name = getattr(adapter, attribute, None)
        if isinstance(name, str) and name and re.search(rf"@{re.escape(name)}\b", event.text or "", re.IGNORECASE):
            return True
    return None


def media(event: Any) -> list[dict[str, str]]:
    album = album_id(event)
    urls = list(getattr(event, "media_urls", None) or [])
    types = list(getattr(event, "media_types", None) or [])
    own = hermes.kind_of(event)
    kinds = [_media_kind(own, types[i] if i < len(types) else "") for i in range(len(urls))]
    if not kinds and own in _MEDIA_KINDS:
        kinds = [own]
    return [without_nothing(kind=kind, album_id=album) for kind in kinds]


def album_id(event: Any) -> str | None:
    found = (getattr(event, "metadata", None) or {}).get("media_group_id")
    if found is None:
        raw = getattr(event, "raw_message", None)
        found = raw.get("media_group_id") if isinstance(raw, Mapping) else getattr(raw, "media_group_id", None)
    return _cut(str(found), _MAX_ID) if isinstance(found, str | int) and found else None


def reply_to(event: Any) -> dict[str, str] | None:
    reply_id = _text_or_none(getattr(event, "reply_to_message_id", None))
    text = _text_or_none(getattr(event, "reply_to_text", None))
    if not reply_id and not text:
        return None
    own = getattr(event, "reply_to_is_own_message", False)
    return without_nothing(id=_cut(reply_id, _MAX_ID), text=_cut(text, _MAX_QUESTION), **{"from": "assistant" if own else "user"})


def _media_kind(own: str, mime: str) -> str:
    if own in ("voice", "sticker"):  # a voice message's type is audio, a sticker's is an image
        return own
    family = str(mime).split("/", 1)[0].lower()
    return _MIME_KINDS.get(family) or ("document" if family else own if own in _MEDIA_KINDS else "other")


def without_nothing(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def cut_bytes(text: str, limit: int) -> str:
    """The text, cut to what the router takes: so many bytes, and not too many more once it is a JSON string."""
    raw = text.encode("utf-8", "replace")[:limit]
    text = raw.decode("utf-8", "ignore")
    while len(json.dumps(text, ensure_ascii=False).encode()) > limit * 3 // 2:
        text = text[: len(text) * 3 // 4]
    return text


def _cut(text: str | None, limit: int) -> str | None:
    return text[:limit] if text is not None else None


def _session_id(key: str) -> str:
    return key if len(key) <= _MAX_ID else "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def _word(value: Any) -> str | None:
    return _text_or_none(getattr(value, "value", value))


def _text_or_none(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None
