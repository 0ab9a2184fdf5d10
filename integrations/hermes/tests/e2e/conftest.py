"""Labs are costly to start (a whole gateway), so tests share them: every person has a session of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness.gateway import Lab, Person

_serial = itertools.count(1)


@pytest.fixture(scope="session")
def make_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lab]]:
    labs: list[Lab] = []

    def make(**options: Any) -> Lab:
        root: Path = tmp_path_factory.mktemp("lab", numbered=True)
        lab = Lab(root, **options)
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture(scope="session")
def on(make_lab: Callable[..., Lab]) -> Lab:
    """The plugin with a router that decides."""
    return make_lab()


@pytest.fixture(scope="session")
def stock(make_lab: Callable[..., Lab]) -> Lab:
    """Hermes without the plugin."""
    return make_lab(plugin="absent", router_mode=None)


@pytest.fixture
def name() -> str:
    return f"user{next(_serial)}"


@pytest.fixture
def alice(on: Lab, name: str) -> Iterator[Person]:
    """Somebody new, whose session nobody else has touched."""
    assert on.link is not None
    on.link.fault = None
    yield on.person(name)
    on.settle()


@pytest.fixture
def stock_alice(stock: Lab, name: str) -> Iterator[Person]:
    yield stock.person(name)
    stock.settle()
