"""Real builds, each of which is made once: in the user's store, so that they are quick the next time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import Built, CommandLine, copy_of_checkout

from crosswheel.building.sandbox.docker_engine import store_label
from crosswheel.building.store import Store
from crosswheel.cli.settings import read_settings

BUILDS: dict[str, tuple[str, ...]] = {
    "main job": ("dm-tree", "--target", "rpi4"),
    "starlark": ("dm-tree", "--target", "rpi4", "--tool", "bazel=2.1.0"),
    "debian 11": ("dm-tree", "--target", "nanopi-m4"),
    "cmake": ("dm-tree", "--version", "0.1.9", "--target", "rk3588", "--python", "3.13"),
    "no avx": ("ml-dtypes", "--no-avx"),
    "wrapt": ("wrapt", "--target", "rpi4"),
}
OF_A_BUILD = frozenset({"run", "wheel", "proof"})
"""Kinds of the steps that come after all that is fetched, assembled and rendered."""


@pytest.fixture(scope="session")
def crosswheel() -> CommandLine:
    """The command line of this checkout, with the user's store."""
    return CommandLine()


@pytest.fixture(scope="session")
def user_store() -> Store:
    return Store(read_settings().store)


@pytest.fixture(scope="session")
def built(crosswheel: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Built]:
    """Builds one of :data:`BUILDS`, once in a session."""
    known: dict[str, Built] = {}

    def build(name: str) -> Built:
        if name not in known:
            out = tmp_path_factory.mktemp(name.replace(" ", "-")) / "dist"
            answer = crosswheel.json("build", *BUILDS[name], "--out", out)
            known[name] = Built(words=BUILDS[name], out=out, answer=answer)
        return known[name]

    return build


@pytest.fixture
def borrowed(
    crosswheel: CommandLine, built: Callable[[str], Built], user_store: Store, tmp_path: Path, engine: Any
) -> Iterator[Callable[..., Store]]:
    """Makes a store of its own for a test: with all that a build needs before it compiles, as links to the user's
    store, and nothing that it makes. Afterwards no container of it may be left."""
    stores: list[Store] = []

    def borrow(name: str, kinds: frozenset[str] | None = None) -> Store:
        store = Store(tmp_path / f"store-{len(stores)}")
        for step in built(name).answer["steps"]:
            if step["kind"] in kinds if kinds else step["kind"] not in OF_A_BUILD:
                place = store.path(step["key"])
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(user_store.path(step["key"]))
        stores.append(store)
        return store

    yield borrow
    left = [container for store in stores for container in containers_of(engine, store)]
    for container in left:
        container.remove(force=True)
    assert not left


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """The Docker engine."""
    import docker

    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def checkout(tmp_path: Path) -> CommandLine:
    """A copy of this checkout, for a test to change."""
    return copy_of_checkout(tmp_path / "checkout")


@pytest.fixture
def wrapt_tree(built: Callable[[str], Built], user_store: Store, tmp_path: Path) -> Path:
    """wrapt's source, for a test to edit."""
    import shutil

    tree = tmp_path / "wrapt"
    shutil.copytree(user_store.path(built("wrapt").keys["unpack wrapt 1.16.0"]) / "out", tree, symlinks=True)
    for path in (tree, *tree.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    return tree


def containers_of(engine: Any, store: Store) -> list[Any]:
    """All containers of builds in ``store``, running or not."""
    label = f"crosswheel.store={store_label(store.root)}"
    return list(engine.containers.list(all=True, filters={"label": label}, ignore_removed=True))
