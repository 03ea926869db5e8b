"""Real builds, each of which is made once: in the user's store, so that they are quick the next time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from busybox import make_root
from commandline import Built, CommandLine, copy_of_checkout
from containers import containers_of

from crosswheel.building.cleaning import clean
from crosswheel.building.sandbox import remove_images
from crosswheel.building.sandbox.docker_engine import DockerSandbox
from crosswheel.building.store import Store
from crosswheel.cli.settings import read_settings

BUILDS: dict[str, tuple[str, ...]] = {
    "main job": ("dm-tree", "--target", "rpi4"),
    "starlark": ("dm-tree", "--target", "rpi4", "--tool", "bazel=2.1.0"),
    "debian 11": ("dm-tree", "--target", "nanopi-m4"),
    "cmake": ("dm-tree", "--version", "0.1.9", "--target", "rk3588", "--python", "3.13"),
    "no avx": ("ml-dtypes", "--no-avx"),
    "wrapt": ("wrapt", "--target", "rpi4"),
    "cuda, cmake": ("cuda-check", "--target", "sbsa-debian", "--cuda"),
    "cuda, meson": ("cuda-check", "--version", "1.0.0+meson", "--target", "sbsa-debian", "--cuda"),
    "cuda, bazel": ("cuda-check", "--version", "1.0.0+bazel", "--target", "sbsa-debian", "--cuda"),
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


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that holds nothing but a static busybox."""
    return make_root(tmp_path_factory.mktemp("busybox"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An empty store, in which the images of the busybox root are known."""
    made = Store(tmp_path_factory.mktemp("store"))
    yield made
    remove_images(made)  # none of the roots is in it


@pytest.fixture(scope="module")
def sandbox(store: Store) -> DockerSandbox:
    """The Docker sandbox of that store."""
    return DockerSandbox(store.root)


@pytest.fixture
def own(tmp_path: Path, engine: Any) -> Iterator[Store]:
    """A store for one test, which leaves no container and no image behind even when it fails."""
    made = Store(tmp_path / "store")
    yield made
    for container in containers_of(engine, made):
        container.remove(force=True)
    clean(made, None, 0, time.time())
    remove_images(made)
