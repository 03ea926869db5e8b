"""Bazel's remote cache, with real servers on this machine: nginx with DAV, and BuildGrid for the Remote Execution API.

dm-tree shows what a second machine gains; a workspace of a few rules, which is built in seconds, shows what is done
about servers that die, are slow, or lie.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import caches
import pytest
from caches import Cache

from crosswheel.building.execute import execute
from crosswheel.building.remote import http, rpc
from crosswheel.building.remote.endpoints import Remote
from crosswheel.building.runners import runners
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.cli.settings import read_settings, the_catalog
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import FilesStep, RenderedFile, RunStep
from crosswheel.spec.catalog import Catalog

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

OLD, NEW = "0.17.2", "2.1.0"
LINKS = 5
"""So many rules, each of which needs the one before."""

RULE = """
genrule(
    name = "r{n}",
    outs = ["r{n}.txt"],
    srcs = [{before}],
    cmd = "sleep {seconds}; (echo {salt} {n}; cat $(SRCS)) > $@",
)
"""
NETWORK = 'genrule(name = "network", outs = ["network.txt"], cmd = "cat /proc/net/dev > $@")\n'
ANOTHER_USER = 4321


@dataclass(frozen=True)
class Made:
    """What became of a step: its result, its log, and what is noted of the remote cache."""

    out: Path
    log: str
    note: dict[str, Any]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return the_catalog()


@pytest.fixture(scope="module")
def nginx_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return caches.fetched_nginx(tmp_path_factory.mktemp("nginx"))


@pytest.fixture(scope="module")
def buildgrid_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return caches.fetched_buildgrid(tmp_path_factory.mktemp("buildgrid") / "venv")


@pytest.fixture
def nginx(nginx_program: Path, tmp_path: Path) -> Iterator[Cache]:
    with caches.nginx(nginx_program, tmp_path / "nginx") as cache:
        yield cache


@pytest.fixture
def buildgrid(buildgrid_program: Path, tmp_path: Path) -> Iterator[Cache]:
    with caches.buildgrid(buildgrid_program, tmp_path / "buildgrid") as cache:
        yield cache


@pytest.fixture
def make(catalog: Catalog, tmp_path: Path) -> Iterator[Callable[..., Made]]:
    """Runs a step in a new store, with the inputs of the user's store and a remote cache: as on another machine."""
    stores: list[Store] = []

    def run(step: RunStep, remote: Remote | None) -> Made:
        theirs = read_settings()
        ours = Store(tmp_path / f"machine-{len(stores)}")
        stores.append(ours)
        settings = replace(theirs, store=ours.root, remote=remote)
        with Screen(quiet=True) as screen:
            execute(list(step.inputs.values()), Store(theirs.store), theirs, runners(catalog, theirs), screen)
            lend(step, Store(theirs.store), ours)
            artefact = execute(step, ours, settings, runners(catalog, settings), screen).artefacts[step.key]
        folder = ours.path(step.key)
        return Made(artefact.path, (folder / "log.txt").read_text(), dict(artefact.meta.notes))

    yield run
    from crosswheel.building.sandbox import remove_images

    for store in stores:
        remove_images(store)


def lend(step: RunStep, theirs: Store, ours: Store) -> None:
    """Gives a store the inputs of a step: what is noted of them as copies, themselves as links."""
    for one in step.inputs.values():
        place = ours.path(one.key)
        place.mkdir(parents=True)
        for name in ("step.json", "meta.json"):
            shutil.copyfile(theirs.path(one.key) / name, place / name)
        (place / "out").symlink_to(theirs.path(one.key) / "out")


def dm_tree(catalog: Catalog, bazel: str = OLD) -> RunStep:
    request = Request(recipe="dm-tree", version="0.1.5", target="rpi4", tools={"bazel": bazel})
    step = plan(resolve(request, catalog), catalog, rules={}).wheel.inputs["run"]
    assert isinstance(step, RunStep)
    return step


def workspace(catalog: Catalog, bazel: str, *, seconds: float = 0, salt: str = "") -> RunStep:
    """The step that compiles dm-tree, with a few rules in the place of its source."""
    run = dm_tree(catalog, bazel)
    rules = "".join(
        RULE.format(n=n, before=f'"r{n - 1}.txt"' if n else "", seconds=seconds, salt=salt or bazel)
        for n in range(LINKS)
    )
    files = {"WORKSPACE": RenderedFile(text=""), "BUILD": RenderedFile(text=rules + NETWORK)}
    return replace(
        run,
        name=f"build a few rules with Bazel {bazel}",
        inputs={**run.inputs, "source": FilesStep(name="a few rules", files=files)},
        commands=(
            ("bazel", "build", "//:all"),
            ("sh", "-c", "cp bazel-genfiles/*.txt /build/out || cp bazel-bin/*.txt /build/out"),
        ),
        outputs=("*.txt",),
    )


def texts(made: Made) -> dict[str, str]:
    return {path.name: path.read_text() for path in made.out.iterdir() if path.name != "network.txt"}


# --- a second machine ------------------------------------------------------------------------------------------------

SECOND = """
import sys
from pathlib import Path
from test_remote_cache import *

catalog = the_catalog()
settings = replace(read_settings(), store=Path(sys.argv[1]), remote=Remote(cache=sys.argv[2]))
with Screen(quiet=True) as screen:
    execute(dm_tree(catalog), Store(settings.store), settings, runners(catalog, settings), screen)
"""
"""Another user's build, in a process of its own."""


def as_another_user(store: Path) -> tuple[str, ...]:
    """What makes a command another user's, where the caller may do that; who owns ``store`` then. It may read all that
    the caller may, because the inputs are the caller's, and talk to the engine."""
    if os.geteuid() != 0:
        return ()
    for path in (store, *store.rglob("*")):
        os.chown(path, ANOTHER_USER, ANOTHER_USER, follow_symlinks=False)
    group = Path("/var/run/docker.sock").stat().st_gid
    rights = "+dac_read_search"
    return (
        *("setpriv", f"--reuid={ANOTHER_USER}", f"--regid={ANOTHER_USER}", f"--groups={group}"),
        *(f"--inh-caps={rights}", f"--ambient-caps={rights}"),
    )


def test_a_second_machine_takes_every_action_of_dm_tree_from_the_cache(
    catalog: Catalog, nginx: Cache, make: Callable[..., Made], tmp_path_factory: pytest.TempPathFactory
) -> None:
    step = dm_tree(catalog)
    first = make(step, Remote(cache=nginx.url))
    actions = first.note["remote"]["cache"]["sent"]
    assert actions >= 20
    assert f"INFO: {actions} processes: {actions} local." in first.log

    second = Store(tmp_path_factory.mktemp("second-machine") / "store")
    lend(step, Store(read_settings().store), second)
    argv = (*as_another_user(second.root), sys.executable, "-c", SECOND, str(second.root), nginx.url)
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": f"{here.parents[1]}:{here}"}
    done = subprocess.run(argv, env=env, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = second.path(step.key)
    assert f"INFO: {actions} processes: {actions} remote cache hit." in (folder / "log.txt").read_text()
    if os.geteuid() == 0:
        assert folder.stat().st_uid == ANOTHER_USER
    cache = json.loads((folder / "meta.json").read_text())["notes"]["remote"]["cache"]
    assert cache["url"] == nginx.url
    assert (cache["found"], cache["missed"], cache["sent"]) == (actions, 0, 0)
    one, other = (next(place.rglob("*.whl")) for place in (first.out, folder / "out"))
    assert members(one) == members(other)


def members(wheel: Path) -> dict[str, int]:
    from zipfile import ZipFile

    with ZipFile(wheel) as archive:
        return {item.filename: item.CRC for item in archive.infolist()}


# --- both kinds of server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "bazel"), [("nginx", NEW), ("buildgrid", OLD)])
def test_what_one_machine_made_the_next_one_takes_and_wrong_bytes_are_found(
    kind: str, bazel: str, catalog: Catalog, make: Callable[..., Made], request: pytest.FixtureRequest
) -> None:
    cache: Cache = request.getfixturevalue(kind)
    step = workspace(catalog, bazel)
    remote = Remote(cache=cache.url)
    actions = LINKS + 1
    cold = make(step, remote)
    assert cold.note["remote"]["cache"]["sent"] == actions

    warm = make(step, remote)
    assert f"{actions} processes: {actions} remote cache hit." in warm.log
    assert texts(warm) == texts(cold)

    assert cache.corrupt(bazel.encode()) == LINKS
    lied_to = make(step, remote)
    assert texts(lied_to) == texts(cold)
    assert lied_to.note["remote"]["cache"]["wrong"] >= 1
    assert "the remote cache gave wrong bytes for" in lied_to.log
    # The container has no network but its own loopback device.
    devices = [line.split(":")[0].strip() for line in (cold.out / "network.txt").read_text().splitlines()[2:]]
    assert "lo" in devices
    assert not [name for name in devices if name.startswith(("eth", "en", "docker"))]


@pytest.mark.parametrize(("kind", "how"), [("nginx", "is slow"), ("buildgrid", "dies")])
def test_a_server_that_goes_away_in_the_middle_does_not_stop_the_build(
    kind: str,
    how: str,
    catalog: Catalog,
    make: Callable[..., Made],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache: Cache = request.getfixturevalue(kind)
    monkeypatch.setattr(http, "READ_SECONDS", 0.5)
    monkeypatch.setattr(rpc, "STALLED_SECONDS", 0.5)
    step = workspace(catalog, NEW, seconds=0.5, salt=f"{kind} {how}")

    def go_away() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not any(path.is_file() for path in cache.blobs.rglob("*")):
            time.sleep(0.05)
        cache.kill() if how == "dies" else cache.pause()

    watcher = threading.Thread(target=go_away)
    watcher.start()
    made = make(step, Remote(cache=cache.url))
    watcher.join()
    assert len(texts(made)) == LINKS
    note = made.note["remote"]["cache"]
    assert note["reached"]
    assert note["away"] == 1, made.log
    assert made.log.count("the build goes on without it") == 1


def test_without_upload_nothing_is_sent(catalog: Catalog, nginx: Cache, make: Callable[..., Made]) -> None:
    made = make(workspace(catalog, NEW), Remote(cache=nginx.url, upload=False))
    assert made.note["remote"]["upload"] is False
    asked = nginx.requests()
    assert asked
    assert {line.split()[0] for line in asked} == {"GET"}
