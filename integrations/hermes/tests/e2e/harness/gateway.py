"""The real `hermes gateway run` with its bundled IRC platform, in a home of its own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from .irc import CHANNEL, FakeIrc
from .model import FakeModel
from .router import Link, Router, RouterModel
from .timeline import TIMEOUT_S, Entry, Timeline

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[2]
LAB_PLUGIN = HERE.parent / "lab_plugin"
START_LIMIT_S = 180.0
STOP_LIMIT_S = 90.0
SETTLE_LIMIT_S = 10.0
PATIENCE_MS = 50_000
PICTURE = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def plugin_site() -> Path:
    """Where `pip install --target` put the plugin. It is apart from Hermes, so that tests can run Hermes without it."""
    path = Path(os.environ.get("BUSY_ROUTER_PLUGIN_SITE", ""))
    if not (path / "busy_router_hermes").is_dir():
        raise AssertionError("BUSY_ROUTER_PLUGIN_SITE does not hold the installed plugin: use run-tests.sh")
    return path


class Lab:
    """One gateway with everything around it. People are names; each has a session of its own."""

    def __init__(
        self,
        root: Path,
        *,
        plugin: str = "on",
        router_mode: str | None = "on",
        busy_mode: str = "interrupt",
        settings: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        directory: bool = False,
    ) -> None:
        """`plugin`: on · unset (enabled without an address) · disabled (installed, not enabled) · absent.
        `router_mode`: what the router is started with; None for no router. `directory`: as a plugin directory, not by pip.
        """
        self.root = root
        self.home = root / "home"
        self.scratch = root / "scratch"
        for folder in (self.home / "plugins", self.scratch, root / "cwd"):
            folder.mkdir(parents=True)
        (self.scratch / "picture.png").write_bytes(PICTURE)
        shutil.copytree(LAB_PLUGIN, self.home / "plugins" / "lab", ignore=shutil.ignore_patterns("__pycache__"))
        self.timeline = Timeline()
        self.closing: list[Callable[[], None]] = []
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.model = FakeModel(self.timeline, self.scratch)
            self.closing.append(self.model.close)
            self.irc = FakeIrc(self.timeline)
            self.closing.append(self.irc.close)
            self.router: Router | None = None
            self.link: Link | None = None
            if router_mode is not None:
                self.router_model = RouterModel()
                self.closing.append(self.router_model.close)
                self.start_router(router_mode)
                assert self.router is not None
                self.link = Link(self.timeline, self.router.url)
                self.closing.append(self.link.close)
            self._plugin, self._directory = plugin, directory
            if directory and plugin != "absent":
                (self.home / "plugins" / "busy-router").symlink_to(PACKAGE)
            self._write_config(busy_mode, settings or {}, config or {})
            self.start()
        except BaseException:
            self.close()
            raise

    # --- processes ---------------------------------------------------------------------------------------------------

    def start_router(self, mode: str = "on") -> None:
        self.router = Router(self.root / "router", self.router_model.url, mode)
        self.closing.append(self.router.stop)
        if self.link is not None:
            self.link.target = self.router.url

    def start(self, warm_up: bool = True) -> None:
        self.irc.joined.clear()
        (self.scratch / "sessions.port").unlink(missing_ok=True)
        since = self.log_size()
        self._out = open(self.root / "gateway.out", "ab")  # noqa: SIM115
        # XDG_STATE_HOME holds Hermes's lock on its IRC name, which is the same in each lab.
        drop = ("XDG_", "HERMES", "IRC", "OPENAI", "BUSY_ROUTER", "PYTHONPATH", "http_proxy", "https_proxy", "HTTP", "ALL_PROXY")
        env = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
        env.update(
            HERMES_HOME=str(self.home),
            HOME=str(self.home),
            IRC_SERVER="127.0.0.1",
            IRC_PORT=str(self.irc.port),
            IRC_CHANNEL=CHANNEL,
            IRC_NICKNAME="hermes",
            IRC_USE_TLS="false",
            IRC_ALLOW_ALL_USERS="true",
            NO_PROXY="*",
            LAB_SCRATCH=str(self.scratch),
            HERMES_AGENT_NOTIFY_INTERVAL="0",
        )
        if self._plugin != "absent" and not self._directory:
            env["PYTHONPATH"] = str(plugin_site())
        hermes = Path(sys.executable).parent / "hermes"
        self.process = subprocess.Popen(
            [str(hermes), "gateway", "run", "-vv", "--force"],
            env=env,
            stdout=self._out,
            stderr=self._out,
            stdin=subprocess.DEVNULL,
            cwd=self.root / "cwd",
        )
        deadline = time.monotonic() + START_LIMIT_S
        while not self.irc.joined.wait(0.05):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the gateway did not join:\n{self.log()[-4000:]}")
        # Not before that is the adapter known to the rest of Hermes.
        self.wait_log("✓ irc connected", limit=START_LIMIT_S, since=since)
        if warm_up:
            self._warm_up()

    def _warm_up(self) -> None:
        """The first message loads the agent, and Hermes adds a greeting to it: neither belongs into a test."""
        nick = f"warmup{self.timeline.mark()}"
        self.person(nick).say("warm up")
        self.timeline.wait(lambda e: e.who == "BOT" and e.data["to"] == nick, "the first answer", timeout=START_LIMIT_S)

    def stop(self, limit: float = STOP_LIMIT_S) -> int:
        """As a service manager does it. Only the process that was started here."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(limit)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self._out.close()
        return self.process.returncode

    def close(self) -> None:
        if self.link_is_up():
            assert self.link is not None
            self.link.release()
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(10)
            self._out.close()
            self.process = None
        for close in reversed(self.closing):
            close()
        self.closing.clear()

    def link_is_up(self) -> bool:
        return getattr(self, "link", None) is not None

    def settle(self) -> None:
        """Lets go of whatever a test has left waiting, so that none of it is seen in the next one."""
        if self.link is not None:
            self.link.release()
        deadline = time.monotonic() + SETTLE_LIMIT_S
        self.model.release_all()
        while self.sessions() and time.monotonic() < deadline:
            time.sleep(0.02)
            self.model.release_all()

    def sessions(self) -> dict[str, str]:
        """The sessions that are busy, and how, as the gateway itself sees them at this moment."""
        try:
            port = int((self.scratch / "sessions.port").read_text())
            with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection, connection.makefile() as answer:
                return dict(json.loads(answer.read() or "{}"))
        except (FileNotFoundError, ConnectionError):
            return {}  # nobody has written yet, or no gateway runs

    def log(self, since: int = 0) -> str:
        """From this byte on."""
        try:
            with open(self.root / "gateway.out", "rb") as file:
                file.seek(since)
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def log_size(self) -> int:
        path = self.root / "gateway.out"
        return path.stat().st_size if path.exists() else 0

    def wait_log(self, words: str, limit: float = TIMEOUT_S, since: int = 0, times: int = 1) -> None:
        deadline = time.monotonic() + limit
        while self.log(since).count(words) < times:
            if time.monotonic() > deadline:
                raise AssertionError(f"{words!r} did not come {times}x in the gateway's log:\n{self.log(since)[-4000:]}")
            time.sleep(0.02)

    def _write_config(self, busy_mode: str, settings: dict[str, Any], extra: dict[str, Any]) -> None:
        enabled = ["lab"] + (["busy-router"] if self._plugin in ("on", "unset") else [])
        entry: dict[str, Any] = dict(settings)
        if self._plugin == "on" and self.link is not None:
            entry.setdefault("url", self.link.url)
            # A machine that is busy with other tests must not look like a router that is down.
            entry.setdefault("timeout_ms", PATIENCE_MS)
        irc = {"server": "127.0.0.1", "port": self.irc.port, "nickname": "hermes", "channel": CHANNEL, "use_tls": False}
        config: dict[str, Any] = {
            "model": {
                "default": "fake-model",
                "provider": "custom",
                "base_url": self.model.url,
                "api_key": "sk-fake",
                "context_length": 200000,
            },
            "display": {"busy_input_mode": busy_mode},
            "memory": {"memory_enabled": False, "user_profile_enabled": False},
            "plugins": {"enabled": enabled, "entries": {"busy-router": entry}},
            "auxiliary": {"title_generation": {"enabled": False}},
            "approvals": {"mode": "manual", "timeout": 600},
            "onboarding": {"seen": {"busy_input_prompt": True, "tool_progress_prompt": True, "profile_build_offered": True}},
            "terminal": {"backend": "local", "cwd": str(self.root / "cwd")},
            "gateway": {"platforms": {"irc": {"enabled": True, "extra": irc}}},
        }
        for key, value in extra.items():
            if isinstance(value, dict) and isinstance(config.get(key), dict):
                config[key].update(value)
            else:
                config[key] = value
        (self.home / "config.yaml").write_text(yaml.safe_dump(config))

    # --- what people do, and what is seen ----------------------------------------------------------------------------

    def person(self, nick: str) -> Person:
        return Person(self, nick)

    def wait(self, who: str, what: str, words: str, since: int = 0, timeout: float = TIMEOUT_S, to: str | None = None) -> Entry:
        """The first such entry whose text holds these words."""
        return self.timeline.wait(
            lambda e: e.who == who and e.what == what and words in e.text and (to is None or e.data.get("to") == to),
            f"{who} {what} {words!r}",
            since,
            timeout,
        )

    def wait_discarded(self, nick: str, since: int) -> None:
        """Until Hermes has thrown away the answer of a run that went on after `/stop`. Nothing else shows when that is done."""
        self.wait_log(f"Discarding stale agent result for agent:main:irc:dm:{nick} ", since=since)

    def asked(self, words: str, since: int = 0, timeout: float = TIMEOUT_S) -> Entry:
        """The model was asked with a user message that holds these words."""
        return self.wait("MODEL", "asked", words, since, timeout)


class Person:
    def __init__(self, lab: Lab, nick: str, to: str | None = None) -> None:
        self.lab = lab
        self.nick = nick
        self.chat = to or nick
        """Where the answers go: the nick in a private chat, else the channel."""
        self._to = to
        self._met = lab.timeline.mark(), lab.log_size()

    def in_channel(self) -> Person:
        return Person(self.lab, self.nick, CHANNEL)

    def say(self, text: str) -> Entry:
        if self._to:
            return self.lab.irc.say(self.nick, f"hermes: {text}", self._to)
        return self.lab.irc.say(self.nick, text)

    def hears(self, words: str, since: int = 0, timeout: float = TIMEOUT_S) -> Entry:
        return self.lab.wait("BOT", "says", words, since, timeout, to=self.chat)

    def heard(self, since: int = 0) -> list[str]:
        return [e.text for e in self.lab.timeline.entries("BOT", "says", since) if e.data["to"] == self.chat]

    def starts(self, text: str) -> int:
        """Sends a message and waits until the model works on it. Returns the time of sending."""
        entry = self.say(text)
        self.lab.asked(text, entry.index)
        self.waits_until("running")
        return entry.index

    def waits_until(self, state: str, limit: float = TIMEOUT_S) -> None:
        """`starting`, `running` or `idle`, as the gateway itself sees the session."""
        deadline = time.monotonic() + limit
        while self.session_state() != state:
            assert time.monotonic() < deadline, f"{self.chat} is not {state}\n{self.lab.timeline.render()}"
            time.sleep(0.02)

    def session_state(self) -> str:
        return next((state for key, state in self.lab.sessions().items() if key.split(":")[4] == self.chat), "idle")

    @contextmanager
    def slow_to_confirm(self) -> Iterator[None]:
        """Meanwhile this chat shows what it is sent, but confirms nothing: Hermes waits with what it does afterwards."""
        path = self.lab.scratch / f"slow-{self.chat}"
        path.touch()
        try:
            yield
        finally:
            path.unlink()

    def waits_for_tool(self, name: str, limit: float = TIMEOUT_S) -> None:
        """Until the terminal command of `[tool=NAME]` runs."""
        deadline = time.monotonic() + limit
        while not (self.lab.scratch / f"{name}.started").exists():
            assert time.monotonic() < deadline, f"the tool {name} did not start\n{self.lab.timeline.render()}"
            time.sleep(0.02)

    def decided(self, since: int) -> dict[str, Any]:
        """The router's next answer on a message of this person, by now in the plugin's hands: to queue, to steer and to ignore
        are done."""
        return self.decisions(since, 1)[0]

    def decisions(self, since: int, count: int) -> list[dict[str, Any]]:
        answers = []
        for _ in range(count):
            entry = self.lab.timeline.wait(self._is_decision, f"a decision for {self.nick}", since)
            answers.append(dict(entry.data["answer"]))
            since = entry.index + 1
        session = entry.data["request"]["session"]["id"]
        before = [
            e
            for e in self.lab.timeline.entries("ROUTER", "decided", self._met[0])
            if e.index <= entry.index
            and "action" in e.data["answer"]
            and e.data["request"].get("session", {}).get("id") == session
        ]
        # The plugin says so when it has the answer, and the loop does nothing else until that is carried out.
        self.lab.wait_log(f" in {session} (rule ", since=self._met[1], times=len(before))
        return answers

    def _is_decision(self, entry: Entry) -> bool:
        if (entry.who, entry.what) != ("ROUTER", "decided") or "action" not in entry.data["answer"]:
            return False
        return bool(entry.data["request"].get("message", {}).get("sender_id") == self.nick)

    def asked_router(self, since: int = 0) -> list[dict[str, Any]]:
        return [
            e.data["request"]
            for e in self.lab.timeline.entries("ROUTER", "asked", since)
            if e.data["request"].get("message", {}).get("sender_id") == self.nick
        ]
