"""What many tests need: the shipped data, and copies of it that a test may change."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from crosswheel.spec.catalog import Catalog

# A shell's background job ignores SIGINT, and so would every process that a test starts and then interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


LONG = "CROSSWHEEL_LONG"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what takes minutes and has an example in another test, unless it is asked for."""
    if os.environ.get(LONG):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason=f"takes minutes: {LONG}=1"))


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The shipped data."""
    return Catalog(ROOT)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the shipped data, for a test to change."""
    place = tmp_path / "data"
    for folder in ("recipes", "toolchains", "sysroots", "patches"):
        shutil.copytree(ROOT / folder, place / folder)
    return place
