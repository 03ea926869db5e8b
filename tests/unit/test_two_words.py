"""Commands of two words: what is a task of a collection to Invoke is written, shown and told of as two words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commandline import INVOKE, ROOT

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

TASKS = """
from invoke.collection import Collection
from crosswheel.cli.arguments import task, teach_parser
from crosswheel.cli.usage import teach_program

teach_parser()
teach_program()

@task(rest="wheels", help={"deep": "How deep."})
def bake(_context, wheels, deep=""):
    \"\"\"Bake wheels.\"\"\"
    print(f"baked {' and '.join(wheels)}, {deep or 'flat'}")

@task()
def cool(_context):
    \"\"\"Cool it.\"\"\"
    print("cooled")

@task()
def bakery(_context):
    \"\"\"One word.\"\"\"

ns = Collection(bakery, Collection("oven", bake, cool))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("oven")
    (made / "tasks.py").write_text(TASKS, encoding="utf-8")
    return made


def say(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [INVOKE, "--search-root", folder, *words]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "80"}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=50, check=False)


def test_two_words_are_one_command_with_its_own_words_and_options(folder: Path) -> None:
    done = say(folder, "oven", "bake", "a", "--deep", "blue", "b")
    assert (done.returncode, done.stdout) == (0, "baked a and b, blue\n"), done.stderr


def test_invokes_own_name_works_too(folder: Path) -> None:
    assert say(folder, "oven.cool").stdout == "cooled\n"


@pytest.mark.parametrize("words", [("--help", "oven", "bake"), ("oven", "bake", "--help"), ("--help", "oven.bake")])
def test_help(folder: Path, words: tuple[str, ...]) -> None:
    done = say(folder, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ./x oven bake [WHEELS…] [options]\n\nBake wheels.")


def test_the_list_shows_two_words(folder: Path) -> None:
    lines = [line.split("   ")[0].strip() for line in say(folder, "--list").stdout.splitlines()]
    assert {"bakery", "oven bake", "oven cool"} <= set(lines)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("oven",), ("`oven` wants one more word", "it has: bake, cool")),
        (("--help", "oven"), ("`oven` wants one more word", "it has: bake, cool")),
        (("oven", "fry"), ("`oven` has no fry", "it has: bake, cool")),
        (("oven", "cool", "--deep", "1"), ("`oven cool` has no option --deep", "./x --help oven cool")),
        (("bakry",), ("there is no command bakry", "did you mean bakery?")),
    ],
)
def test_wrong_words(folder: Path, words: tuple[str, ...], told: tuple[str, ...]) -> None:
    done = say(folder, *words)
    assert done.returncode == 2
    for sentence in told:
        assert sentence in done.stderr
    assert "Traceback" not in done.stderr
