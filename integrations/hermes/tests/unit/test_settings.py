from __future__ import annotations

import logging
from pathlib import Path

import pytest

from busy_router_hermes.settings import Settings, SettingsError, load


def test_nothing_set_means_inactive() -> None:
    assert not load(None, {}).active
    assert not load({"url": "http://router:8710", "enabled": False}, {}).active
    assert load({"url": "http://router:8710"}, {}).active


def test_the_environment_wins() -> None:
    env = {"HERMES_BUSY_ROUTER_URL": "http://other:1", "HERMES_BUSY_ROUTER_TIMEOUT_MS": "300"}
    settings = load({"url": "http://router:8710", "timeout_ms": 900, "send_history": "no"}, env)
    assert (settings.url, settings.timeout_ms, settings.send_history) == ("http://other:1", 300, False)


def test_the_services_own_variables_mean_nothing_here() -> None:
    assert not load(None, {"BUSY_ROUTER_URL": "http://other:1"}).active


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"url": "router:8710"}, "url must be"),
        ({"url": "ftp://router"}, "url must be"),
        ({"timeout_ms": "soon"}, "timeout_ms"),
        ({"timeout_ms": 3}, "at least 50"),
        ({"enabled": "perhaps"}, "true or false"),
        ({"token_file": "/does/not/exist"}, "token_file"),
        ({"breaker_open_s": -1}, "negative"),
    ],
)
def test_what_cannot_be_meant_is_said(section: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(section, {})


def test_unknown_keys_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load({"urll": "x"}, {})
    assert "plugins.entries.busy-router.urll" in caplog.text


def test_the_token_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("geheim\n")
    settings = load({"token_file": str(tmp_path / "token")}, {})
    assert settings.token == "geheim"
    assert "geheim" not in repr(settings)


def test_unix_sockets() -> None:
    assert load({"url": "unix:/run/busy-router.sock"}, {}).active


def test_the_defaults_are_the_readmes() -> None:
    assert Settings().timeout_ms == 2000 and Settings().breaker_open_s == 10
