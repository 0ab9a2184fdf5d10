"""An OpenAI-compatible model whose answers a test scripts in the message itself, and releases when it wants.

`[hold=NAME]` the answer waits until the test releases NAME · `[tool=NAME]` a terminal command that runs until then ·
`[danger]` a command that needs an approval · `[clarify]` a question to the user · `[delegate=NAME]` a sub-agent that waits ·
`[last=NAME]` the answer to a tool's result waits until the test releases NAME.
"""

from __future__ import annotations

import json
import re
import select
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .timeline import Timeline

HOLD_LIMIT_S = 600.0
"""More than any test takes: what a test holds is let go by the test."""


class FakeModel:
    def __init__(self, timeline: Timeline, scratch: Path) -> None:
        self.timeline = timeline
        self.scratch = scratch
        self._released: set[str] = set()
        self._held: set[str] = set()
        self.hold_all: str | None = None
        """While set, every answer waits for this name."""
        self._lock = threading.Lock()
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                model.reply(self, {"object": "list", "data": [{"id": "fake-model", "object": "model", "context_length": 200000}]})

            def do_POST(self) -> None:
                model.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def release(self, name: str) -> None:
        """Lets what waits under this name go on, now or when it comes to it."""
        with self._lock:
            self._released.add(name)
        (self.scratch / name).touch()

    def release_all(self) -> None:
        """What tests have left waiting."""
        with self._lock:
            held = self._held - self._released
        for name in held:
            self.release(name)

    def _is_released(self, name: str) -> bool:
        with self._lock:
            return name in self._released

    # --- one request -------------------------------------------------------------------------------------------------

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        messages = body.get("messages", [])
        users = [i for i, m in enumerate(messages) if m.get("role") == "user"]
        last = users[-1] if users else -1
        user = last_paragraph(text_of(messages[last]["content"])) if users else ""
        results = [text_of(m.get("content")) for m in messages[last + 1 :] if m.get("role") == "tool"]
        self.timeline.add("MODEL", "asked", user, results=results, messages=messages)
        call = None if results or not body.get("tools") else self._call_for(user)
        text = ""
        if call is None:
            found = re.search(r"\[last=(\w+)\]" if results else r"\[hold=(\w+)\]", user)
            hold = self.hold_all or (found[1] if found else None)
            if hold and not self._hold(handler, hold):
                self.timeline.add("MODEL", "aborted", user)
                return
            text = f"ANSWER to <{shorten(user)}>"
        try:
            if body.get("stream"):
                self._stream(handler, text, call)
            else:
                message: dict[str, Any] = {"role": "assistant", "content": text or None}
                if call:
                    message["tool_calls"] = [call]
                finish = "tool_calls" if call else "stop"
                usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
                self.reply(
                    handler,
                    {
                        "id": "c1",
                        "object": "chat.completion",
                        "created": 1,
                        "model": "fake-model",
                        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                        "usage": usage,
                    },
                )
            self.timeline.add("MODEL", "answered", f"call {call['function']['name']}" if call else text)
        except (BrokenPipeError, ConnectionResetError):
            self.timeline.add("MODEL", "aborted", user)

    def _call_for(self, user: str) -> dict[str, Any] | None:
        def call(name: str, **arguments: Any) -> dict[str, Any]:
            function = {"name": name, "arguments": json.dumps(arguments)}
            return {"id": f"call_{time.monotonic_ns()}", "type": "function", "function": function}

        if tool := re.search(r"\[tool=(\w+)\]", user):
            with self._lock:
                self._held.add(tool[1])
            gate, started = self.scratch / tool[1], self.scratch / f"{tool[1]}.started"
            return call("terminal", command=f"touch {started}; while [ ! -e {gate} ]; do sleep 0.1; done; echo tool-finished")
        if "[danger]" in user:
            return call("terminal", command="rm -rf ./zzz_dir; echo removed")
        if "[clarify]" in user:
            return call("clarify", question="Which colour?", choices=["red", "blue"])
        if delegate := re.search(r"\[delegate=(\w+)\]", user):
            return call("delegate_task", goal=f"child job [hold={delegate[1]}]")
        return None

    def _hold(self, handler: BaseHTTPRequestHandler, name: str) -> bool:
        """True when released; False when the caller hung up, which is what an interrupt looks like from here."""
        with self._lock:
            self._held.add(name)
        deadline = time.monotonic() + HOLD_LIMIT_S
        while time.monotonic() < deadline and not self._is_released(name):
            if select.select([handler.connection], [], [], 0.02)[0]:
                try:
                    if not handler.connection.recv(1, socket.MSG_PEEK):
                        handler.close_connection = True
                        return False
                except OSError:
                    return False
        return True

    @staticmethod
    def reply(handler: BaseHTTPRequestHandler, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    @staticmethod
    def _stream(handler: BaseHTTPRequestHandler, text: str, call: dict[str, Any] | None) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "fake-model"}
        first: dict[str, Any] = {"role": "assistant"}
        if call:
            first["tool_calls"] = [{**call, "index": 0}]
        else:
            first["content"] = text
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        chunks: list[dict[str, Any]] = [
            {**base, "choices": [{"index": 0, "delta": first, "finish_reason": None}]},
            {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if call else "stop"}]},
            {**base, "choices": [], "usage": usage},
        ]
        for chunk in chunks:
            handler.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        handler.wfile.write(b"data: [DONE]\n\n")
        handler.close_connection = True


def text_of(content: Any) -> str:
    if isinstance(content, list):
        content = " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def last_paragraph(text: str) -> str:
    """After an interrupt Hermes puts the unanswered message and the next one into one, with an empty line between."""
    return text.strip().split("\n\n")[-1]


def shorten(text: str) -> str:
    """What a test recognises an answer by."""
    return re.sub(r"\s+", " ", text).strip()[-80:]
