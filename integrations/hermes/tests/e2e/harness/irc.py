"""An IRC server with one client, the gateway, and any number of people who are only names."""

from __future__ import annotations

import socketserver
import threading
from typing import Any

from .timeline import Entry, Timeline

CHANNEL = "#lab"
BOT = "hermes"


class FakeIrc:
    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.joined = threading.Event()
        self._connection: Any = None
        self._sending = threading.Lock()
        irc = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                irc._serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _serve(self, handler: socketserver.StreamRequestHandler) -> None:
        self._connection = handler.connection
        for raw in handler.rfile:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if line.startswith("NICK "):
                handler.wfile.write(f":srv 001 {line[5:]} :welcome\r\n".encode())
            elif line.startswith("JOIN"):
                self.joined.set()
            elif line.startswith("PRIVMSG"):
                _, target, text = line.split(" ", 2)
                self.timeline.add("BOT", "says", text[1:], to=target)
            elif line.startswith("PING"):
                handler.wfile.write(b"PONG\r\n")

    def say(self, nick: str, text: str, to: str = BOT) -> Entry:
        with self._sending:
            entry = self.timeline.add(nick, "says", text, to=to)
            self._connection.sendall(f":{nick}!{nick}@loop PRIVMSG {to} :{text}\r\n".encode())
        return entry

    def say_at_once(self, nick: str, texts: list[str], to: str = BOT) -> None:
        """In one packet, as a burst arrives."""
        for text in texts:
            self.timeline.add(nick, "says", text, to=to)
        lines = "".join(f":{nick}!{nick}@loop PRIVMSG {to} :{text}\r\n" for text in texts)
        with self._sending:
            self._connection.sendall(lines.encode())
