"""Two builds in two stores give byte-identical wheels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Built, CommandLine

from crosswheel.building.store import Store
from crosswheel.digest import sha256_tree

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def link_or_copy(source: str, target: str) -> None:
    """A hard link, or a copy where the temporary folder is on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def test_in_another_store_in_another_place(
    checkout: CommandLine,
    built: Callable[[str], Built],
    borrowed: Callable[..., Store],
    user_store: Store,
    tmp_path: Path,
) -> None:
    """Of the same packages, sources are fetched, roots assembled and the wheel compiled anew, in a fresh store, from
    another checkout, with another number of jobs and another limit of memory."""
    made = built("wrapt")
    store = borrowed("wrapt", frozenset({"lock"}))
    debs = user_store.root / "debs"
    if debs.is_dir():  # they are checked by their hashes all the same
        shutil.copytree(debs, store.root / "debs", copy_function=link_or_copy)
    command = checkout.with_store(store.root)
    answer = command.json(
        "build", *made.words, "--jobs", "1", "--memory", "3", "--out", tmp_path / "a place with spaces", cwd=tmp_path
    )
    done = {step["kind"] for step in answer["steps"] if not step["cached"]}
    assert done == {"fetch", "tree", "files", "root", "run", "wheel", "proof"}
    assert [step["key"] for step in answer["steps"]] == [step["key"] for step in made.answer["steps"]]
    assert answer["sha256"] == made.answer["sha256"]
    assert Path(answer["wheel"]).read_bytes() == made.wheel.read_bytes()
    for name, key in made.keys.items():
        if name.startswith(("assemble ", "unpack ", "render ")):
            assert sha256_tree(store.path(key) / "out") == sha256_tree(user_store.path(key) / "out"), name


def test_what_bazel_builds(
    crosswheel: CommandLine, built: Callable[[str], Built], borrowed: Callable[..., Store], tmp_path: Path
) -> None:
    """Compiled again, with one job at a time."""
    made = built("main job")
    store = borrowed("main job")
    answer = crosswheel.with_store(store.root).json("build", *made.words, "--jobs", "1", "--out", tmp_path)
    assert [step["kind"] for step in answer["steps"] if not step["cached"]] == ["run", "wheel", "proof"]
    assert answer["sha256"] == made.answer["sha256"]
