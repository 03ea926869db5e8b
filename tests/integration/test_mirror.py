"""A closed site: a mirror is filled where there is a network, and builds where there is none."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commandline import Built, CommandLine

from crosswheel.building.artefacts import Artefact
from crosswheel.building.execute import execute
from crosswheel.building.job import Settings
from crosswheel.building.runners import runners
from crosswheel.building.sources.mirroring import filling
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.digest import sha256_file
from crosswheel.errors import FetchError
from crosswheel.planning.arranging import MembersStep
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.roots import debugger_step
from crosswheel.planning.steps import FetchStep, LockStep, RootStep, Step
from crosswheel.proving.prove import RULES
from crosswheel.spec.catalog import Catalog

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

NOWHERE = "http://127.0.0.1:9"
"""Nothing listens there (discard)."""
CLOSED = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE),
    "no_proxy": "",
    "NO_PROXY": "",
    "PIP_INDEX_URL": NOWHERE,
    "PIP_RETRIES": "0",
    "NPM_CONFIG_REGISTRY": NOWHERE,
}


def without_network(argv: Sequence[str]) -> Sequence[str]:
    """A command in a network of its own that has not even a loopback interface, where this machine allows that."""
    unshare = shutil.which("unshare")
    possible = unshare and subprocess.run((unshare, "--net", "true"), capture_output=True, check=False).returncode == 0
    return (unshare, "--net", *argv) if unshare and possible else argv


@pytest.fixture(scope="module")
def mirror(built: Callable[[str], Built], crosswheel: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of wrapt for rpi4, filled by the command."""
    words = built("wrapt").words
    folder = tmp_path_factory.mktemp("mirror") / "files"
    done = crosswheel("mirror", *words, "--to", folder)
    assert done.returncode == 0, done.stderr
    assert f"--mirror {folder} --offline" in done.stdout
    return folder


@pytest.fixture
def mine(mirror: Path, tmp_path: Path) -> Path:
    """A copy of the mirror, to damage."""
    shutil.copytree(mirror, tmp_path / "mine", copy_function=os.link)
    return tmp_path / "mine"


@pytest.fixture(scope="module")
def planned() -> Plan:
    from crosswheel.cli.settings import DATA

    catalog = Catalog(DATA)
    return plan(resolve(Request(recipe="wrapt", target="rpi4"), catalog), catalog, rules=RULES)


def test_the_manifest_is_of_all_that_the_plan_fetches(mirror: Path, planned: Plan, catalog: Catalog) -> None:
    manifest = json.loads((mirror / "manifest.json").read_text())
    held = {path.name for path in (mirror / "sha256").rglob("*") if path.is_file()}
    assert {file["sha256"] for file in manifest["files"]} == held
    assert all(sha256_file(path) == path.name for path in (mirror / "sha256").rglob("*") if path.is_file())
    assert {step.sha256 for step in planned.steps if isinstance(step, FetchStep)} <= held
    wanted = (*planned.steps, *debugger_step(catalog).walk())
    assert {lock["key"] for lock in manifest["locks"]} == {s.key for s in wanted if isinstance(s, LockStep)}
    assert all(file["needed"] and file["origin"] for file in manifest["files"])
    assert manifest["files"] == sorted(manifest["files"], key=lambda file: (file["name"], file["sha256"]))


def test_a_build_from_a_mirror_needs_no_network_and_gives_the_same_wheel(
    mirror: Path, built: Callable[[str], Built], crosswheel: CommandLine, tmp_path: Path
) -> None:
    online = built("wrapt")
    words = ("build", *online.words, "--mirror", mirror, "--offline", "--out", tmp_path / "dist", "--json")
    answer = offline_build(crosswheel, words, tmp_path / "store")
    assert answer["sha256"] == online.answer["sha256"]
    assert not any(step["cached"] for step in answer["steps"])


def offline_build(crosswheel: CommandLine, words: Sequence[str | Path], store: Path) -> dict[str, Any]:
    """What a build in no network answers."""
    env = crosswheel.environment({**CLOSED, "CROSSWHEEL_STORE": str(store)})
    done = subprocess.run(
        without_network(crosswheel.argv(*words)),
        env=env,
        cwd=crosswheel.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_mirror_by_http_gives_files_packages_and_locks(
    mirror: Path, planned: Plan, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    emulator = next(s for s in planned.steps if isinstance(s, RootStep) and s.name == "assemble emulator")
    goals = [emulator, *(step for step in planned.steps if isinstance(step, FetchStep | LockStep))]
    with _served(mirror) as url:
        settings = Settings(store=tmp_path / "store", mirror=url, offline=True)
        with Screen(quiet=True) as screen:
            result = execute(goals, Store(settings.store), settings, runners(catalog, settings), screen)
    assert all(not step.cached for step in result.steps)
    assert next(result.artefacts[emulator.key].path.glob("usr/bin/qemu-aarch64*")).is_file()


def test_parts_of_wheels_come_from_a_mirror(catalog: Catalog, tmp_path: Path) -> None:
    """Online, the index serves the wanted members; a mirror holds the whole wheel, of which the same are taken."""
    chosen = resolve(Request(recipe="cuda-check", target="sbsa-debian"), catalog)
    every = [step for step in plan(chosen, catalog, rules=RULES).steps if isinstance(step, MembersStep)]
    steps = [step for step in every if "cuda_runtime" in step.file]  # the smallest: 1 MB
    assert len(steps) == 2

    def got(name: str, wanted: Sequence[Step], mirror: Path | None = None) -> dict[str, Artefact]:
        store = Store(tmp_path / name)
        settings = Settings(store=store.root, mirror=str(mirror) if mirror else None, offline=mirror is not None)
        with Screen(quiet=True) as screen:
            return dict(execute(wanted, store, settings, runners(catalog, settings), screen).artefacts)

    folder = tmp_path / "mirror"
    with filling(folder, Settings(store=tmp_path / "filling")) as run:
        run.add({"CUDA": steps}, lambda wanted: got("filling", wanted), catalog.archives)
        assert run.write().added == 2
    assert sorted(path.name for path in folder.glob("sha256/*/*")) == sorted(step.sha256 for step in steps)
    online, offline = got("online", steps), got("offline", steps, folder)
    for step in steps:
        assert (offline[step.key].path / "nvidia/cuda_runtime/include/cuda_runtime.h").is_file()
        assert digests(offline[step.key].path) == digests(online[step.key].path)


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
def test_a_build_with_cuda_from_a_mirror(
    built: Callable[[str], Built], crosswheel: CommandLine, tmp_path: Path
) -> None:
    """1.5 GB: NVIDIA's wheels are whole in a mirror. With an empty store, and in no network."""
    online = built("cuda, cmake")
    filled = crosswheel("mirror", *online.words, "--to", tmp_path / "mirror")
    assert filled.returncode == 0, filled.stderr
    assert "not mirrored" not in filled.stdout, "the recipe's folder is no file of the user's"
    words = ("build", *online.words, "--mirror", tmp_path / "mirror", "--offline", "--out", tmp_path / "dist", "--json")
    answer = offline_build(crosswheel, words, tmp_path / "store")
    assert answer["sha256"] == online.answer["sha256"]
    assert not any(step["cached"] for step in answer["steps"])


@pytest.mark.parametrize("wrong", [False, True], ids=["missing", "wrong"])
@pytest.mark.parametrize("what", ["source", "package", "lock"])
def test_a_mirror_with_a_file_missing_or_wrong(
    what: str, wrong: bool, mine: Path, planned: Plan, crosswheel: CommandLine, tmp_path: Path
) -> None:
    manifest = json.loads((mine / "manifest.json").read_text())
    by_name = {file["name"]: file["sha256"] for file in manifest["files"]}
    locks = {lock["step"]: lock["sha256"] for lock in manifest["locks"]}
    name, sha256 = {
        "source": ("wrapt-1.16.0.tar.gz", by_name["wrapt-1.16.0.tar.gz"]),
        "package": next((name, digest) for name, digest in by_name.items() if name.startswith("qemu-user")),
        "lock": ("resolve emulator", locks["resolve emulator"]),
    }[what]
    path = mine / "sha256" / sha256[:2] / sha256
    path.unlink()  # a link to the other mirror's file
    if wrong:
        path.write_bytes(b"other bytes")
    words = ("build", "wrapt", "--target", "rpi4", "--mirror", mine, "--offline", "--out", tmp_path / "dist")
    done = crosswheel(*words, env={**CLOSED, "CROSSWHEEL_STORE": str(tmp_path / "store")})
    assert done.returncode == 3, done.stderr
    told = done.stderr
    assert sha256 in told
    assert name.partition("_")[0] in told
    assert ("other bytes" in told or "wrong bytes" in told) is wrong
    assert "fill the mirror" in told.lower()
    assert told.count("→ ") >= 1
    assert not (tmp_path / "dist").exists()


def test_the_same_run_again_mends_a_mirror(mine: Path, crosswheel: CommandLine) -> None:
    manifest = json.loads((mine / "manifest.json").read_text())
    first, second = (file["sha256"] for file in manifest["files"][:2])
    place, other = (mine / "sha256" / sha256[:2] / sha256 for sha256 in (first, second))
    place.unlink()
    other.unlink()
    other.write_bytes(b"other bytes")
    before = (mine / "manifest.json").read_bytes()
    done = crosswheel("mirror", "wrapt", "--target", "rpi4", "--to", mine)
    assert done.returncode == 0, done.stderr
    assert "2 files added" in done.stdout
    assert "was wrong, and is replaced" in done.stdout
    assert (sha256_file(place), sha256_file(other)) == (first, second)
    assert (mine / "manifest.json").read_bytes() == before


def test_a_lock_that_no_mirror_has_cannot_be_resolved_offline(planned: Plan, catalog: Catalog, tmp_path: Path) -> None:
    lock = next(step for step in planned.steps if isinstance(step, LockStep))
    settings = Settings(store=tmp_path / "store", mirror=str(tmp_path), offline=True)
    with Screen(quiet=True) as screen, pytest.raises(FetchError, match="cannot be resolved offline") as caught:
        execute(lock, Store(settings.store), settings, runners(catalog, settings), screen)
    assert "./x mirror" in caught.value.hint


class _served:
    """A folder by HTTP on the loopback interface."""

    def __init__(self, folder: Path) -> None:
        handler = partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return
