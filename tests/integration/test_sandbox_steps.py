"""Steps in the Docker sandbox: what they leave, and what a build that is killed or fails leaves of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from containers import ROOT, SLOW, a_step, build, containers_of, start_build

from crosswheel.building.cleaning import clean
from crosswheel.building.sandbox import remove_images
from crosswheel.building.store import Store
from crosswheel.errors import MachineError, StepError
from tests.waiting import emptied

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def test_a_step_leaves_its_output_to_the_caller(root: Path, own: Store) -> None:
    store = own
    script = """
    id -u > /build/out/who.txt
    mkdir -m 700 /build/out/deep; echo x > /build/out/deep/x
    echo changed > bin/new; echo $HOME $SIZE > /build/out/env.txt
    """
    step = a_step(root, script)
    out = build(step, root, store, jobs=3)
    everything = [out, *out.rglob("*")]
    assert len(everything) == 5
    assert {path.stat().st_uid for path in everything} == {os.getuid()}
    assert {path.stat().st_gid for path in everything} == {os.getgid()}
    assert int((out / "who.txt").read_text()) != 0
    assert (out / "env.txt").read_text() == "/build/home 3 64\n"
    assert emptied(store.root / "tmp")
    assert not (store.path(ROOT.key) / "out/bin/new").exists()  # the copy was changed, not the input


def test_a_failed_step_shows_the_lines_that_matter(root: Path, own: Store) -> None:
    store = own
    step = a_step(root, "echo \"a.cc:1:1: error: 'x' was not declared\"; exit 1")
    with pytest.raises(StepError) as caught:
        build(step, root, store, keep_failed=True)
    assert "was not declared" in caught.value.why and f"./x shell {step.key[:12]}" in caught.value.hint
    assert "was not declared" in store.log_path(step.key).read_text()
    assert (store.root / "failed" / step.key / "work/container.json").is_file()


def test_a_killed_build_leaves_a_container_which_the_next_one_removes(root: Path, own: Store, engine: Any) -> None:
    store = own
    key = a_step(root, SLOW).key
    process = start_build(root, store)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = containers_of(engine, store, key)
    assert left.status == "running"
    again = start_build(root, store)  # the same step in the same store
    (mine,) = containers_of(engine, store, key)
    assert mine.id != left.id
    assert len(list((store.root / "tmp").glob(f"{key}.*"))) == 1
    again.send_signal(signal.SIGINT)
    assert again.wait(20) == 130
    assert containers_of(engine, store, key) == []
    assert emptied(store.root / "tmp")


def test_ctrl_c_leaves_no_container(root: Path, own: Store, engine: Any) -> None:
    store = own
    process = start_build(root, store)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert time.monotonic() - start < 6  # Python's end included
    assert containers_of(engine, store) == []
    assert emptied(store.root / "tmp")


def test_a_full_disk_is_said_to_be_one(root: Path, tmp_path: Path) -> None:
    """The store lies on a small disk of its own, and the step fills it."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root; as another user the unit test with ENOSPC stands for it")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)), check=True)
    store = Store(disk / "store")
    step = a_step(root, "dd if=/dev/zero of=/build/out/big.txt bs=1M count=100")
    try:
        with pytest.raises(MachineError) as caught:
            build(step, root, store)
        for part in ("no space left", str(store.root), "MiB free", "./x clean"):
            assert part in str(caught.value)
        assert store.has(ROOT.key) and not store.has(step.key)
        assert emptied(store.root / "tmp")
    finally:
        clean(store, None, 0, time.time())
        remove_images(store)
        subprocess.run(("umount", str(disk)), check=True)
