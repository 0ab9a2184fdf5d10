"""The call to the router, against a server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from busy_router_hermes.client import MAX_ANSWER_BYTES, Breaker, RouterClient, RouterUnavailable
from busy_router_hermes.protocol import InvalidAnswer, parse_decision
from busy_router_hermes.settings import Settings

GOOD = json.dumps({"decision_id": "1", "action": "queue", "mode": "on", "ack": {"key": "queue", "text": "Queued."}}).encode()


class Server:
    """One canned answer a request. `None` never answers, an int is a status."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.requests: list[tuple[bytes, dict[str, Any]]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
                )
                self.requests.append((head, json.loads(await reader.readexactly(length))))
                answer = self.answers.pop(0) if self.answers else GOOD
                if answer is None:
                    await asyncio.sleep(30)
                if answer == "close":
                    return
                if answer == "drip":
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                    while True:
                        writer.write(b" ")
                        await writer.drain()
                        await asyncio.sleep(0.02)
                status, extra, body = 200, b"", answer
                if isinstance(answer, tuple):
                    status, extra, body = answer[0], answer[1], b"no"
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def against(answers: list[Any], test: Callable[[RouterClient, Server], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        server = Server(answers)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        client = RouterClient(Settings(url=f"http://127.0.0.1:{port}", **{"timeout_ms": 20_000, **settings}))
        try:
            await test(client, server)
        finally:
            await client.close()
            listener.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_decision_comes_back() -> None:
    async def test(client: RouterClient, server: Server) -> None:
        decision = await client.decide({"message": {"text": "grüß dich"}})
        assert (decision.action, decision.ack, decision.acts) == ("queue", "Queued.", True)
        head, body = server.requests[0]
        assert b"POST /v1/route" in head and b"Bearer geheim" in head
        assert body == {"message": {"text": "grüß dich"}, "deadline_ms": 19_900}

    against([], test, token="geheim")


@pytest.mark.parametrize("fault", [None, "drip"])
def test_the_time_limit_holds_for_the_whole_call(fault: Any) -> None:
    async def test(client: RouterClient, server: Server) -> None:
        start = time.monotonic()
        with pytest.raises(RouterUnavailable, match="no answer within 1500 ms"):
            await client.decide({})
        assert 1.4 < time.monotonic() - start < 20  # without a limit it would take for ever
        # And the next does not wait at all: nothing is sent.
        with pytest.raises(RouterUnavailable, match="left alone"):
            await client.decide({})
        assert len(server.requests) == 1

    against([fault], test, timeout_ms=1500)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"action": "explode"}',
        b'{"action": 7}',
        b"x" * (MAX_ANSWER_BYTES + 1),
        (500, b""),
        (404, b""),
    ],
)
def test_nonsense_is_no_decision_and_opens_the_breaker_only_when_it_persists(answer: Any) -> None:
    async def test(client: RouterClient, server: Server) -> None:
        for _ in range(3):
            assert not client.breaker.open
            with pytest.raises(RouterUnavailable):
                await client.decide({})
        assert client.breaker.open

    against([answer] * 3, test)


@pytest.mark.parametrize("answer", [(401, b""), (403, b""), (503, b""), (429, b"Retry-After: 5\r\n")])
def test_a_refusal_is_respected(answer: Any) -> None:
    async def test(client: RouterClient, server: Server) -> None:
        with pytest.raises(RouterUnavailable):
            await client.decide({})
        assert client.breaker.open

    against([answer], test)


def test_a_connection_that_a_restarted_router_had_closed_is_no_failure() -> None:
    async def test(client: RouterClient, server: Server) -> None:
        await client.decide({})
        assert (await client.decide({})).action == "queue"
        assert len(server.requests) == 3

    against([GOOD, "close", GOOD], test)


def test_nobody_there() -> None:
    async def main() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            client = RouterClient(Settings(url=f"http://127.0.0.1:{nobody.getsockname()[1]}", timeout_ms=20_000))
            with pytest.raises(RouterUnavailable, match="cannot be reached"):
                await client.decide({})
        assert client.breaker.open
        await client.close()

    asyncio.run(main())


def test_a_call_that_is_given_up_says_nothing_about_the_router() -> None:
    async def test(client: RouterClient, server: Server) -> None:
        asking = asyncio.ensure_future(client.decide({}))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not client.breaker.open

    against([None], test)


def test_unix_socket() -> None:
    async def main(path: str) -> None:
        server = Server([])
        listener = await asyncio.start_unix_server(server.serve, path)
        client = RouterClient(Settings(url=f"unix:{path}", timeout_ms=20_000))
        assert (await client.decide({})).action == "queue"
        await client.close()
        listener.close()

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's folders can be too long for a socket's name
        asyncio.run(main(f"{folder}/router.sock"))


def test_completion_has_its_own_endpoint() -> None:
    async def test(client: RouterClient, server: Server) -> None:
        assert await client.completion({"task": {}}) == {"delivery": "none"}
        assert b"POST /v1/tasks/completion" in server.requests[0][0]

    against([b'{"delivery": "none"}'], test)


class TestBreaker:
    def make(self) -> tuple[Breaker, list[float]]:
        now = [0.0]
        return Breaker(10, lambda: now[0]), now

    def test_one_probe_after_the_pause_decides(self) -> None:
        breaker, now = self.make()
        breaker.unreachable()
        assert breaker.open and not breaker.admit()
        now[0] = 10.0
        assert not breaker.open
        assert breaker.admit(), "the probe"
        assert breaker.open and not breaker.admit(), "one at a time"
        breaker.succeeded()
        assert not breaker.open and breaker.admit()

    def test_a_probe_that_fails_opens_it_again(self) -> None:
        breaker, now = self.make()
        breaker.unreachable()
        now[0] = 10.0
        breaker.admit()
        breaker.bad_answer()
        assert breaker.open
        now[0] = 20.0
        assert breaker.admit()

    def test_a_probe_that_is_given_up_leaves_room_for_another(self) -> None:
        breaker, now = self.make()
        breaker.unreachable()
        now[0] = 10.0
        breaker.admit()
        breaker.released()
        assert breaker.admit()


def test_answers_are_parsed_once_and_strictly() -> None:
    answer = parse_decision(
        json.dumps(
            {
                "decision_id": "d",
                "action": "dispatch",
                "mode": "on",
                "rule": "command",
                "decided_by": "guard",
                "command": {"name": "STOP", "args": "now", "lane": "control"},
                "ack": None,
                "replayed": True,
                "news": 1,
            }
        ).encode()
    )
    assert answer.command is not None and answer.command.text == "/stop now"
    assert answer.replayed and answer.ack is None and answer.acts
    with pytest.raises(InvalidAnswer):
        parse_decision(b"null")
    assert not parse_decision(b'{"action": "pass_through"}').acts
    assert not parse_decision(b'{"action": "interrupt", "mode": "shadow"}').acts
