"""Builds that fail, are killed, interrupted or met by another; and a store that was damaged: by the command line."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import Built, CommandLine
from containers import containers_of

from crosswheel.building.store import Store
from crosswheel.digest import sha256_file
from tests.waiting import emptied

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

WRAPT = ("wrapt", "--target", "rpi4")
WHEEL = "wrapt-1.16.0-cp311-cp311-linux_aarch64.whl"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture
def quick(checkout: CommandLine) -> CommandLine:
    """A checkout whose check of wrapt runs one of its test files, where it does not matter what the check says."""
    recipe = checkout.root / "recipes" / "wrapt"
    edit(recipe / "check.py", 'source + "/tests"', 'source + "/tests/test_copy.py"')
    edit(recipe / "1.16.0.toml", "tests = 431", "tests = 1")
    return checkout


def slowed(tree: Path) -> Path:
    """wrapt's source with a ``setup.py`` that takes its time."""
    edit(tree / "setup.py", "import os", "import os, time; print('taking some time', flush=True); time.sleep(3)")
    return tree


def container_of(engine: Any, store: Store, process: subprocess.Popen[str], seconds: float = 120) -> Any:
    """The running container of the build that ``process`` does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = [container for container in containers_of(engine, store) if container.status == "running"]
        if found:
            return found[0]
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no container was started")


def kinds_done(answer: dict[str, Any]) -> list[str]:
    return [step["kind"] for step in answer["steps"] if not step["cached"]]


# --- a build that fails ----------------------------------------------------------------------------------------------


@pytest.fixture
def broken(checkout: CommandLine, wrapt_tree: Path) -> CommandLine:
    """A checkout whose series for wrapt puts an #error into the C source."""
    source = "src/wrapt/_wrappers.c"
    first, second = (wrapt_tree / source).read_text().splitlines()[:2]
    series = checkout.root / "patches" / "wrapt"
    series.mkdir()
    (series / "broken.patch").write_text(
        f"It does not compile.\n\n--- a/{source}\n+++ b/{source}\n@@ -1,2 +1,3 @@\n"
        f" {first}\n+#error this is the line that matters\n {second}\n"
    )
    (series / "series.toml").write_text(
        '[[patches]]\nfile = "broken.patch"\nversions = ">=1"\n'
        'reason = "shows what is said of a compiler error"\nupstream = "it is no fault of upstream"\n'
    )
    return checkout


def test_a_compiler_error(broken: CommandLine, borrowed: Callable[..., Store], tmp_path: Path, engine: Any) -> None:
    """The message names the step, the line that matters and what to try next; the log can be shown, the failed
    step's container opened; nothing is released and no container left."""
    store = borrowed("wrapt")
    command = broken.with_store(store.root)
    done = command("build", *WRAPT, "--out", tmp_path / "dist", "--keep-failed")
    assert done.returncode == 4
    assert done.stdout == ""
    assert "✗ compile wrapt 1.16.0 for rpi4 failed after" in done.stderr
    message = done.stderr[done.stderr.index("error: ") :]
    assert message.startswith("error: compile wrapt 1.16.0 for rpi4: The command `python3 -m pip wheel ")
    assert re.search(r"src/wrapt/_wrappers\.c:2:2: error: #error this is the line that matters", message)
    assert len(message.splitlines()) < 25
    (key,) = [path.name for path in (store.root / "failed").iterdir()]
    assert f"`./x log {key[:12]}` shows the whole log; `./x shell {key[:12]}` opens its container." in message
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "dist").exists()
    assert containers_of(engine, store) == []

    log = command("log", key[:12])
    assert log.returncode == 0
    assert "$ python3 -m pip wheel" in log.stdout
    assert "#error this is the line that matters" in log.stdout
    assert log.stdout.count("\n") > len(message.splitlines())

    keys = b"id -u; pwd; ls /sysroot /build; head -2 src/wrapt/_wrappers.c\nexit 7\n"
    said = typed(command, ("shell", key[:12]), keys)
    assert "The command that failed, in /build/src:" in said
    assert "1000" in said.split() if os.geteuid() == 0 else str(os.geteuid()) in said.split()
    assert {"/build/src", "usr", "home", "out"} <= set(said.split())
    assert "#error this is the line that matters" in said
    assert said.endswith("status 7")
    assert containers_of(engine, store) == []

    told = command("build", *WRAPT, "--out", tmp_path / "dist", "--json")
    assert told.returncode == 4
    error = json.loads(told.stdout)
    assert error["exit_code"] == 4
    assert error["error"]["where"] == "compile wrapt 1.16.0 for rpi4"
    assert "the line that matters" in error["error"]["why"]


def typed(command: CommandLine, words: tuple[str, ...], keys: bytes) -> str:
    """What a terminal shows in which a command runs and a person types; then its exit status."""
    ours, theirs = pty.openpty()
    process = command.start(*words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    sent = False
    end = time.monotonic() + 60
    while time.monotonic() < end:
        ready, _, _ = select.select([ours], [], [], 0.5)
        if ready:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side was closed
                break
            if not piece:
                break
            shown += piece
        elif not sent and b"$" in shown.splitlines()[-1] if shown else False:
            os.write(ours, keys)
            sent = True
    os.close(ours)
    return shown.decode(errors="replace") + f"status {process.wait(timeout=30)}"


def test_a_patch_that_does_not_apply(broken: CommandLine, borrowed: Callable[..., Store], tmp_path: Path) -> None:
    store = borrowed("wrapt")
    command = broken.with_store(store.root)
    patch = broken.root / "patches" / "wrapt" / "broken.patch"
    lines = patch.read_text().splitlines()
    lines[-1] = " this stands nowhere"
    patch.write_text("\n".join(lines) + "\n")
    done = command("build", *WRAPT, "--out", tmp_path / "dist")
    assert done.returncode == 4
    assert "unpack wrapt 1.16.0: the patch broken.patch does not apply" in done.stderr
    assert "this stands nowhere" in done.stderr
    assert "./x patches check" in done.stderr
    checked = command("patches", "check", "wrapt")
    assert checked.returncode == 2
    assert "fails" in checked.stdout
    assert "this stands nowhere" in checked.stdout


def test_a_wheel_whose_proof_fails(
    checkout: CommandLine, built: Callable[[str], Built], borrowed: Callable[..., Store], tmp_path: Path
) -> None:
    """It lands in dist/failed, and takes the older one of the same name out of dist/<target>."""
    store = borrowed("wrapt", frozenset({"fetch", "lock", "root", "tree", "files", "run", "wheel", "proof"}))
    command = checkout.with_store(store.root)
    out = tmp_path / "dist"
    assert command("build", *WRAPT, "--out", out).returncode == 0
    assert (out / "rpi4" / WHEEL).is_file()
    script = checkout.root / "recipes" / "wrapt" / "check.py"
    script.write_text("import wrapt\nassert wrapt is None, 'this wheel is refused'\n" + script.read_text())
    done = command("build", *WRAPT, "--out", out)
    assert done.returncode == 1
    assert "this wheel is refused" in done.stdout
    assert "The proof failed" in done.stdout
    assert str(out / "failed" / WHEEL) in done.stdout
    assert [path.relative_to(out).as_posix() for path in sorted(out.rglob("*")) if path.is_file()] == [
        f"failed/{WHEEL}",
        f"failed/{WHEEL}.proof.json",
    ]
    assert sha256_file(out / "failed" / WHEEL) == built("wrapt").answer["sha256"]
    answer = command.json("build", *WRAPT, "--out", out, status=1)
    assert answer["proof"]["passed"] is False
    assert answer["wheel"] == str(out / "failed" / WHEEL)
    assert [f["rule"] for f in answer["proof"]["findings"] if f["severity"] == "fail"] == ["emulated"]
    assert kinds_done(answer) == []  # a failing proof is a result, and stays


# --- a build that ends too early, or is not alone --------------------------------------------------------------------


def test_killed_in_the_middle_of_a_compile(
    quick: CommandLine, borrowed: Callable[..., Store], wrapt_tree: Path, tmp_path: Path, engine: Any
) -> None:
    """After kill -9 the same command goes on at the step that was killed, and removes what the first left behind."""
    store = borrowed("wrapt")
    words = ("build", *WRAPT, "--source", f"wrapt={slowed(wrapt_tree)}", "--out", tmp_path / "dist")
    command = quick.with_store(store.root)
    process = command.start(*words)
    container = container_of(engine, store, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (leftover,) = (store.root / "tmp").iterdir()
    assert not (tmp_path / "dist").exists()
    answer = command.json(*words)
    assert answer["proof"]["passed"] is True
    done = kinds_done(answer)
    assert done == ["run", "wheel", "proof"]  # the user's source was taken before it was killed
    assert not leftover.exists()
    assert emptied(store.root / "tmp")
    assert container.id not in {each.id for each in containers_of(engine, store)}


def test_interrupted_in_the_middle_of_a_compile(
    quick: CommandLine, borrowed: Callable[..., Store], wrapt_tree: Path, tmp_path: Path, engine: Any
) -> None:
    """Ctrl-C: no container, nothing half-made, exit code 130, at once."""
    store = borrowed("wrapt")
    words = ("build", *WRAPT, "--source", f"wrapt={slowed(wrapt_tree)}", "--out", tmp_path / "dist")
    process = quick.with_store(store.root).start(*words, start_new_session=True)
    container_of(engine, store, process)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert time.monotonic() - began < 15
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert containers_of(engine, store) == []
    assert emptied(store.root / "tmp")
    assert not (store.root / "failed").exists()
    assert not (tmp_path / "dist").exists()


def test_two_identical_builds_at_once(
    quick: CommandLine, borrowed: Callable[..., Store], wrapt_tree: Path, tmp_path: Path, engine: Any
) -> None:
    """One compiles, the other waits and takes the result."""
    store = borrowed("wrapt")
    words = ("build", *WRAPT, "--source", f"wrapt={slowed(wrapt_tree)}", "--out")
    command = quick.with_store(store.root)
    first = command.start(*words, tmp_path / "first", "--json")
    container = container_of(engine, store, first)
    second = command.start(*words, tmp_path / "second")
    seen = {container.id}
    while second.poll() is None:
        seen |= {each.id for each in containers_of(engine, store) if "run" in labels_kind(store, each)}
        time.sleep(0.2)
    _, said = second.communicate()
    answer, errors = first.communicate()
    assert (first.returncode, second.returncode) == (0, 0), errors + said
    assert seen == {container.id}
    assert "run" in kinds_done(json.loads(answer))
    assert "compile wrapt 1.16.0 for rpi4: another build makes it; waiting" in said
    assert "✓ compile" not in said
    assert sha256_file(tmp_path / "first" / "rpi4" / WHEEL) == sha256_file(tmp_path / "second" / "rpi4" / WHEEL)


def labels_kind(store: Store, container: Any) -> set[str]:
    """The kind of the step that a container works for."""
    try:
        step = store.describe(container.labels["crosswheel.key"]).step
    except Exception as error:
        raise AssertionError(f"a container of no step: {container.labels}") from error
    return {str(step["kind"])}


# --- what was in the store -------------------------------------------------------------------------------------------


def test_a_truncated_artefact_is_found_and_rebuilt(
    crosswheel: CommandLine, built: Callable[[str], Built], borrowed: Callable[..., Store], tmp_path: Path
) -> None:
    made = built("wrapt")
    store = borrowed("wrapt", frozenset({"fetch", "lock", "root", "tree", "files", "run", "proof"}))
    command = crosswheel.with_store(store.root)
    assert kinds_done(command.json("build", *WRAPT, "--out", tmp_path / "1")) == ["wheel"]
    wheel = store.path(made.key("wheel")) / "out" / WHEEL
    wheel.chmod(0o644)
    os.truncate(wheel, wheel.stat().st_size // 2)
    done = command("build", *WRAPT, "--out", tmp_path / "2")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"! wheel wrapt 1\.16\.0 was damaged in the store \(out/{WHEEL} has \d+ bytes", done.stderr)
    assert sha256_file(tmp_path / "2" / "rpi4" / WHEEL) == made.answer["sha256"]
    assert len(list((store.root / "kept").rglob(WHEEL))) == 1
    again = command("build", *WRAPT, "--out", tmp_path / "2")
    assert again.stderr == "✓ nothing to do: the result is in the store\n"


# --- the user's own sources, and without Docker ----------------------------------------------------------------------


def test_an_edited_tree_and_a_file_as_source(
    quick: CommandLine,
    built: Callable[[str], Built],
    borrowed: Callable[..., Store],
    user_store: Store,
    wrapt_tree: Path,
    tmp_path: Path,
) -> None:
    import zipfile

    store = borrowed("wrapt")
    command = quick.with_store(store.root)
    with (wrapt_tree / "src" / "wrapt" / "__init__.py").open("a") as stream:
        stream.write("\nEDITED = 'by the user'\n")
    words = ("build", *WRAPT, "--source", f"wrapt={wrapt_tree}", "--out", tmp_path / "edited")
    answer = command.json(*words)
    assert answer["proof"]["passed"] is True
    with zipfile.ZipFile(answer["wheel"]) as archive:
        assert b"EDITED = 'by the user'" in archive.read("wrapt/__init__.py")
    assert kinds_done(command.json(*words)) == []

    made = built("wrapt")
    copy = tmp_path / "mine.tar.gz"
    shutil.copyfile(user_store.path(made.keys["fetch wrapt-1.16.0.tar.gz"]) / "out" / "wrapt-1.16.0.tar.gz", copy)
    answer = command.json("build", *WRAPT, "--source", f"wrapt={copy}", "--out", tmp_path / "same")
    assert answer["sha256"] == made.answer["sha256"]
    assert "take wrapt" in {step["name"] for step in answer["steps"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user needs a kernel that permits user namespaces")
def test_on_the_host(
    crosswheel: CommandLine, built: Callable[[str], Built], borrowed: Callable[..., Store], tmp_path: Path
) -> None:
    """--sandbox host builds the same bytes, and says that it is not hermetic."""
    store = borrowed("wrapt")
    done = crosswheel.with_store(store.root)(
        "build", *WRAPT, "--sandbox", "host", "--out", tmp_path, env={"DOCKER_HOST": "unix:///nowhere"}
    )
    assert done.returncode == 0, done.stderr
    assert "not hermetic" in done.stderr
    assert "438 tests passed" in done.stdout
    assert sha256_file(tmp_path / "rpi4" / WHEEL) == built("wrapt").answer["sha256"]
