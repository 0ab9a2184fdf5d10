"""The real `busy-router`, the model it asks, and a link to it that can fail in every way."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .timeline import TIMEOUT_S, Timeline

START_LIMIT_S = 60.0
HOLD_LIMIT_S = 600.0
MODEL_MS = 30_000


def binary() -> Path:
    default = Path(__file__).resolve().parents[5] / "target" / "release" / "busy-router"
    path = Path(os.environ.get("BUSY_ROUTER_BIN") or default).resolve()
    if not path.is_file():
        raise AssertionError(f"no busy-router binary at {path}: build it, or set BUSY_ROUTER_BIN")
    return path


class RouterModel:
    """The model behind `provider = "openai"`. A message says which action it stands for: `... {steer}`; else `queue`."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
                found = re.findall(r"\{(interrupt|queue|ignore|steer|background)\}", asked)
                content = json.dumps({"action": found[-1] if found else "queue", "confidence": 0.95})
                message = {"role": "assistant", "content": content}
                body = json.dumps(
                    {
                        "id": "r1",
                        "object": "chat.completion",
                        "created": 1,
                        "model": "router-model",
                        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                    }
                ).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Router:
    """One `busy-router serve`. Stopping it kills only that process."""

    def __init__(self, folder: Path, model_url: str, mode: str = "on") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "busy-router.toml"
        config.write_text(
            f'mode = "{mode}"\n\n[server]\nlisten = "127.0.0.1:0"\ndrain_ms = {MODEL_MS}\n\n'
            f'[model]\nprovider = "openai"\nbase_url = "{model_url}"\nmodel = "router-model"\ntimeout_ms = {MODEL_MS}\n\n'
            '[actions]\nsteer = "execute"\nbackground = "execute"\n\n'
            "[ack]\ncooldown_s = 0\n"
        )
        env = {k: v for k, v in os.environ.items() if not k.startswith("BUSY_ROUTER_")}
        self._out = open(folder / "busy-router.log", "ab")  # noqa: SIM115
        self._from = self._out.tell()
        self.process = subprocess.Popen(
            [str(binary()), "serve", "--config", str(config)], stdout=self._out, stderr=self._out, env=env, cwd=folder
        )
        self.url = self._address()

    def log(self) -> str:
        return (self.folder / "busy-router.log").read_bytes()[self._from :].decode("utf-8", "replace")

    def _address(self) -> str:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if found := re.search(r"listening on (http://[\w.:\[\]]+)", self.log()):
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.stop()
        raise AssertionError(f"busy-router did not start:\n{self.log()[-3000:]}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self._out.close()


class _LinkServer(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_port = True


class Link:
    """Between the plugin and the router: passes on and records, or fails as the test says."""

    def __init__(self, timeline: Timeline, target: str) -> None:
        self.timeline = timeline
        self.target = target
        self.fault: str | None = None
        """`hang`, `500`, `garbage`, `close`; None passes on."""
        self.completion: dict[str, Any] | int | None = None
        """What `/v1/tasks/completion` answers, or a status; None asks the router."""
        self._open = threading.Event()
        self._open.set()
        self._closing = threading.Event()
        link = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                link._pass_on(self)

        self._handler = Handler
        self.server: ThreadingHTTPServer | None = None
        # Bound for good, so that nobody else gets the port while nobody listens.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        self.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listen(self) -> None:
        self.server = _LinkServer(("127.0.0.1", self.port), self._handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def die(self) -> None:
        """Nobody listens any more. Connections that are open end with their next request."""
        if self.server is not None:
            server, self.server = self.server, None
            server.shutdown()
            server.server_close()
        self.fault = "close"

    def revive(self) -> None:
        self.fault = None
        self.listen()

    def hold(self) -> None:
        """Answers wait until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._closing.set()
        self.release()
        self.die()
        self._place.close()

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        request = json.loads(body)
        text = request.get("message", {}).get("text", "")
        self.timeline.add("ROUTER", "asked", text, path=handler.path, request=request)
        status, answer = self._answer(handler, body)
        self._open.wait(HOLD_LIMIT_S)
        if status == 0:
            self.timeline.add("ROUTER", "failed", text, fault=self.fault)
            handler.close_connection = True
            handler.connection.close()
            return
        try:
            decision = json.loads(answer)
        except ValueError:
            decision = {}
        # Written down before it is told, so that it stands before what comes of it.
        self.timeline.add(
            "ROUTER",
            "decided",
            f"{decision.get('action', status)} ({decision.get('rule', '-')})",
            answer=decision,
            request=request,
        )
        try:
            handler.send_response(status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(answer)))
            handler.end_headers()
            handler.wfile.write(answer)
        except OSError:
            self.timeline.add("ROUTER", "unheard", text)

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        if self.fault == "hang":
            self._closing.wait(HOLD_LIMIT_S)
            return 0, b""
        if self.fault == "close":
            return 0, b""
        if self.fault == "500":
            return 500, b"boom"
        if self.fault == "garbage":
            return 200, b"<html>interrupt</html>"
        if handler.path == "/v1/tasks/completion" and self.completion is not None:
            if isinstance(self.completion, int):
                return self.completion, b"{}"
            return 200, json.dumps(self.completion).encode()
        request = Request(self.target + handler.path, body, {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""
