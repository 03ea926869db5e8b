"""`x` on a tree of its own, with stubs for Python and apt-get on the PATH."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]

# Answers what `x` asks of an interpreter, and writes down that it was asked. pip's part can be told to fail or to wait.
STUB_PYTHON = """#!/bin/bash
case "$1 $2" in
  "-c import"*) printf '3.11 %s %s\\n' "${STUB_ENSUREPIP:-True}" "$STUB_PYTHON" ;;
  "-m venv")
    echo "venv" >>"$STUB_CALLS"
    mkdir -p "$3/bin"; cp "$STUB_PYTHON" "$3/bin/python" ;;
  "-m pip")
    echo "pip ${@: -1}" >>"$STUB_CALLS"
    touch "$STUB_CALLS.in-pip"
    sleep "${STUB_WAIT:-0}"
    echo "noise that nobody wants"
    if [ -n "${STUB_FAIL:-}" ]; then echo "ERROR: No matching distribution found for invoke"; exit 1; fi
    printf '#!/bin/bash\\nprintf "invoke in %%s:" "$PWD"; printf " %%s" "$@"; echo\\n' >"${0%/*}/invoke"
    chmod +x "${0%/*}/invoke" ;;
  *) exit 3 ;;
esac
"""


@dataclass(frozen=True)
class Tree:
    """A checkout with nothing but `x` and a pyproject.toml, and the stubs beside it."""

    folder: Path
    environ: Mapping[str, str]

    @property
    def calls(self) -> list[str]:
        """What the stubs were asked to do, in order."""
        path = Path(self.environ["STUB_CALLS"])
        return path.read_text().splitlines() if path.exists() else []

    def start(
        self, *argv: str, cwd: Path | None = None, x: Path | None = None, **environ: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [x or self.folder / "x", *argv],
            cwd=cwd or self.folder,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *argv: str, cwd: Path | None = None, x: Path | None = None, **environ: str
    ) -> tuple[int, str, str]:
        process = self.start(*argv, cwd=cwd, x=x, **environ)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    folder = tmp_path / "a checkout"
    folder.mkdir()
    write_program(folder / "x", (ROOT / "x").read_text())
    (folder / "pyproject.toml").write_text("[project]\nname = 'crosswheel'\n")
    stubs = tmp_path / "stubs"
    write_program(stubs / "python3", STUB_PYTHON)
    return Tree(
        folder=folder,
        environ={
            "PATH": f"{stubs}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "CROSSWHEEL_PYTHON": str(stubs / "python3"),  # not the machine's own
            "STUB_PYTHON": str(stubs / "python3"),
            "STUB_CALLS": str(tmp_path / "calls"),
        },
    )


def test_first_run_installs_and_hands_over(tree: Tree) -> None:
    status, out, err = tree.run("build", "wrapt", "--json")
    assert status == 0
    assert out == f"invoke in {tree.folder}: --write-pyc --search-root {tree.folder} build wrapt --json\n"
    assert "setting up .venv" in err
    assert "noise" not in err
    assert tree.calls == ["venv", f"pip {tree.folder}"]


def test_warm_run_asks_python_nothing_and_says_nothing(tree: Tree) -> None:
    tree.run("list")
    before = tree.calls
    assert tree.run("list")[2] == ""
    assert tree.calls == before


def test_it_keeps_the_users_folder_and_follows_links(tree: Tree, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "cw").symlink_to(Path("../a checkout/x"))
    status, out, _ = tree.run("list", cwd=elsewhere, x=elsewhere / "cw")
    assert status == 0
    assert out.startswith(f"invoke in {elsewhere}: ")
    assert f"--search-root {tree.folder} list" in out


def test_no_words_list_the_tasks(tree: Tree) -> None:
    assert tree.run()[1].endswith(" --list\n")


@pytest.mark.parametrize(
    ("words", "environ", "dev"),
    [
        (("test",), {}, True),
        (("bench",), {}, True),
        (("--echo", "lint"), {}, True),
        (("build", "test"), {}, False),
        (("build", "x"), {"CI": "true"}, True),
        (("build", "x"), {"CI": "false"}, False),
    ],
)
def test_what_is_installed_depends_on_the_task(
    tree: Tree, words: tuple[str, ...], environ: dict[str, str], dev: bool
) -> None:
    tree.run(*words, **environ)
    assert tree.calls == ["venv", f"pip {tree.folder}{'[dev]' if dev else ''}"]


def test_dev_comes_on_top_and_then_serves_every_task(tree: Tree) -> None:
    tree.run("list")
    tree.run("test")
    tree.run("list")
    assert tree.calls == ["venv", f"pip {tree.folder}", f"pip {tree.folder}[dev]"]


def test_a_changed_pyproject_is_installed_anew_in_the_same_venv(tree: Tree) -> None:
    tree.run("list")
    (tree.folder / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    tree.run("list")
    assert tree.calls == ["venv", f"pip {tree.folder}", f"pip {tree.folder}"]


def test_a_failed_install_shows_the_line_that_matters_and_is_redone_from_the_start(tree: Tree) -> None:
    status, out, err = tree.run("list", STUB_FAIL="1")
    assert (status, out) == (5, "")
    assert "ERROR: No matching distribution found for invoke" in err
    assert "noise" not in err
    assert tree.run("list")[0] == 0
    assert tree.calls == ["venv", f"pip {tree.folder}"] * 2


def test_a_killed_install_is_redone_from_the_start(tree: Tree) -> None:
    process = tree.start("list", STUB_WAIT="30")
    marker = Path(tree.environ["STUB_CALLS"] + ".in-pip")
    end = time.monotonic() + 20
    while not marker.exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (tree.folder / ".venv" / "half-installed").touch()
    assert tree.run("list")[0] == 0
    assert not (tree.folder / ".venv" / "half-installed").exists()
    assert tree.calls == ["venv", f"pip {tree.folder}"] * 2


def test_of_two_at_once_one_installs_and_the_other_waits(tree: Tree) -> None:
    both = [tree.start("list", STUB_WAIT="0.5") for _ in range(2)]
    told = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("waiting" in text for text in told) == 1
    assert tree.calls == ["venv", f"pip {tree.folder}"]


def test_a_moved_checkout_gets_a_new_venv(tree: Tree, tmp_path: Path) -> None:
    tree.run("list")
    moved = Tree(folder=tmp_path / "moved", environ=tree.environ)
    tree.folder.rename(moved.folder)
    status, out, _ = moved.run("list")
    assert status == 0
    assert f"--search-root {moved.folder} list" in out
    assert tree.calls == ["venv", f"pip {tree.folder}", "venv", f"pip {moved.folder}"]


def test_a_venv_whose_interpreter_is_gone_is_made_anew(tree: Tree) -> None:
    tree.run("list")
    (tree.folder / ".venv/bin/python").unlink()
    assert tree.run("list")[0] == 0
    assert tree.calls == ["venv", f"pip {tree.folder}"] * 2


def test_no_new_enough_python_is_said_plainly(tree: Tree) -> None:
    python = Path(tree.environ["STUB_PYTHON"])
    python.write_text('#!/bin/bash\n[ "$1" = --version ] && echo "Python 3.9.2"\n')
    status, out, err = tree.run("list")
    assert (status, out) == (5, "")
    assert "no Python 3.11 or newer here (Python 3.9.2)" in err
    assert "apt-get install -y python3 python3-venv" in err


@dataclass(frozen=True)
class Debian:
    """The stubs of a Debian machine whose Python cannot make a venv until apt-get has installed a package."""

    tree: Tree
    environ: Mapping[str, str]


@pytest.fixture
def debian(tree: Tree) -> Debian:
    if "debian" not in Path("/etc/os-release").read_text().lower():
        pytest.skip("x installs packages on Debian and Ubuntu only, and this machine is neither")
    stubs = Path(tree.environ["STUB_PYTHON"]).parent
    write_program(
        stubs / "apt-get", '#!/bin/bash\necho "apt-get ${@: -1}" >>"$STUB_CALLS"\n[ -z "${STUB_APT_FAIL:-}" ]\n'
    )
    write_program(stubs / "id", '#!/bin/bash\necho "${STUB_UID:-0}"\n')
    # `x` offers the package for the distribution's own interpreter only: its real path begins with /usr/bin/.
    return Debian(
        tree=tree, environ={"STUB_ENSUREPIP": "False", "STUB_PYTHON": f"/usr/bin/../..{tree.environ['STUB_PYTHON']}"}
    )


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (("list",), {"CROSSWHEEL_YES": "1"}),
        (("list",), {"CI": "true"}),
        (("test",), {}),
        (("doctor", "--fix"), {}),
    ],
)
def test_with_consent_the_missing_package_is_installed(
    debian: Debian, words: tuple[str, ...], environ: dict[str, str]
) -> None:
    status, _, err = debian.tree.run(*words, **debian.environ, **environ)
    assert status == 0, err
    assert "installing python3.11-venv" in err
    assert "apt-get python3.11-venv" in debian.tree.calls
    assert debian.tree.calls[-2:] == ["venv", f"pip {debian.tree.folder}" + ("" if _runs(words, environ) else "[dev]")]


def _runs(words: tuple[str, ...], environ: dict[str, str]) -> bool:
    return words != ("test",) and "CI" not in environ


@pytest.mark.parametrize(
    ("environ", "command"),
    [
        ({}, "→ apt-get update && apt-get install -y --no-install-recommends python3.11-venv"),
        (
            {"STUB_UID": "1000", "CROSSWHEEL_YES": "1"},
            "→ sudo apt-get update && sudo apt-get install -y --no-install-recommends python3.11-venv",
        ),
    ],
)
def test_without_consent_or_right_the_command_is_named(debian: Debian, environ: dict[str, str], command: str) -> None:
    status, out, err = debian.tree.run("list", **debian.environ, **environ)
    assert (status, out) == (5, "")
    assert command in err
    assert debian.tree.calls == []


def test_apt_get_that_fails_is_told(debian: Debian) -> None:
    status, _, err = debian.tree.run("list", **debian.environ, CROSSWHEEL_YES="1", STUB_APT_FAIL="1")
    assert status == 5
    assert "python3.11-venv could not be installed" in err
