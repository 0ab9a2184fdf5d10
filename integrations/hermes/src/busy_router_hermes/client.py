"""Asking the router: one call with one time limit, and a breaker so that a dead router costs one time-out, not one a message."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .protocol import Decision, InvalidAnswer, parse_decision, parse_object
from .settings import Settings

log = logging.getLogger("busy_router")
T = TypeVar("T")

MAX_ANSWER_BYTES = 65_536
_DEADLINE_MARGIN_MS = 100
_BAD_ANSWERS_TO_OPEN = 3
_REFUSED_OPEN_S = 60.0
_MAX_RETRY_AFTER_S = 60.0


class RouterUnavailable(Exception):
    """No usable answer. The caller does what Hermes would do without the router."""


class Breaker:
    """Closed: calls pass. Open: they do not. After `open_s` one probe passes, and decides.

    A router that cannot be reached, or does not answer in time, opens it at once: every further message would wait as
    long for nothing. A router that answers nonsense costs no time, so it takes several in a row.
    """

    def __init__(self, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._open_s = open_s
        self._clock = clock
        self._open_until: float | None = None
        self._probing = False
        self._bad_answers = 0

    @property
    def open(self) -> bool:
        """True while a call would be refused. Asking changes nothing."""
        return self._open_until is not None and (self._probing or self._clock() < self._open_until)

    def admit(self) -> bool:
        """Whether a call may be made now. In half-open state the first caller is the probe."""
        if self.open:
            return False
        if self._open_until is not None:
            self._probing = True
        return True

    def succeeded(self) -> None:
        self._open_until = None
        self._probing = False
        self._bad_answers = 0

    def unreachable(self, open_s: float | None = None) -> None:
        self._open_until = self._clock() + (self._open_s if open_s is None else open_s)
        self._probing = False

    def bad_answer(self) -> None:
        self._bad_answers += 1
        if self._probing or self._bad_answers >= _BAD_ANSWERS_TO_OPEN:
            self.unreachable()

    def released(self) -> None:
        """The call was given up by us (shutdown): it says nothing about the router."""
        self._probing = False


class RouterClient:
    """Talks to one router. Used on one event loop: the gateway's."""

    def __init__(self, settings: Settings, breaker: Breaker | None = None) -> None:
        self._settings = settings
        self.breaker = breaker or Breaker(settings.breaker_open_s)
        self._http: Any = None

    async def decide(self, request: Mapping[str, Any]) -> Decision:
        deadline = max(1, self._settings.timeout_ms - _DEADLINE_MARGIN_MS)
        body = await self._post("/v1/route", {**request, "deadline_ms": deadline})
        return self._parsed(parse_decision, body)

    async def completion(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._parsed(parse_object, await self._post("/v1/tasks/completion", request))

    async def close(self) -> None:
        if self._http is not None:
            http, self._http = self._http, None
            await http.aclose()

    def _parsed(self, parse: Callable[[bytes], T], body: bytes) -> T:
        try:
            answer = parse(body)
        except InvalidAnswer as error:
            self.breaker.bad_answer()
            raise RouterUnavailable(str(error)) from None
        self.breaker.succeeded()
        return answer

    async def _post(self, path: str, request: Mapping[str, Any]) -> bytes:
        if not self.breaker.admit():
            raise RouterUnavailable("left alone after a failure")
        import httpx  # here, and not at the top: a `hermes chat` that never routes should not pay for it

        try:
            # One limit around the whole call: httpx's own limits are per operation, and a body that drips would pass them.
            async with asyncio.timeout(self._settings.timeout_s):
                try:
                    status, headers, body = await self._exchange(path, request)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    # A kept-alive connection that a restarted router had closed. Once more on a new one; the message's id
                    # makes the second attempt a redelivery, which the router answers with the same decision.
                    status, headers, body = await self._exchange(path, request)
        except TimeoutError:
            self.breaker.unreachable()
            raise RouterUnavailable(f"no answer within {self._settings.timeout_ms} ms") from None
        except (httpx.HTTPError, OSError) as error:
            self.breaker.unreachable()
            raise RouterUnavailable(f"cannot be reached: {type(error).__name__}") from None
        except _AnswerTooLarge:
            self.breaker.bad_answer()
            raise RouterUnavailable("the answer is too large") from None
        except asyncio.CancelledError:
            self.breaker.released()
            raise
        except Exception:
            self.breaker.bad_answer()
            raise
        if status == 200:
            return body
        self._note_refusal(status, headers)
        raise RouterUnavailable(f"answered {status}")

    async def _exchange(self, path: str, request: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        content = json.dumps(request, ensure_ascii=False).encode("utf-8", "replace")
        async with self._client().stream("POST", path, content=content) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise _AnswerTooLarge
            return response.status_code, response.headers, bytes(body)

    def _note_refusal(self, status: int, headers: Mapping[str, str]) -> None:
        if status in (401, 403):
            log.error("busy-router: the router refuses the token (%d); set plugins.entries.busy-router.token", status)
            self.breaker.unreachable(_REFUSED_OPEN_S)
        elif status in (429, 503):
            self.breaker.unreachable(_retry_after(headers))
        else:
            self.breaker.bad_answer()

    def _client(self) -> Any:
        if self._http is None:
            import httpx

            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            if self._settings.token:
                headers["Authorization"] = f"Bearer {self._settings.token}"
            base, transport = self._settings.url.rstrip("/"), None
            parts = urlsplit(self._settings.url)
            if parts.scheme == "unix":
                base, transport = "http://busy-router", httpx.AsyncHTTPTransport(uds=parts.path)
            # trust_env=False: a proxy that the environment names for the agent's traffic is not for this call.
            self._http = httpx.AsyncClient(
                base_url=base, transport=transport, headers=headers, timeout=self._settings.timeout_s, trust_env=False
            )
        return self._http


class _AnswerTooLarge(Exception):
    pass


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return min(max(float(headers.get("retry-after", "")), 0.0), _MAX_RETRY_AFTER_S)
    except ValueError:
        return None
