"""The tasks for those who work on crosswheel: `test`, `lint`, `bench`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from invoke.context import Context
from invoke.exceptions import Exit

from crosswheel.cli.arguments import task
from crosswheel.cli.settings import DATA, read_settings

_BIN = DATA / ".venv" / "bin"


def _run(*argv: str) -> int:
    return subprocess.run(argv, cwd=DATA, check=False).returncode


@task(
    rest="files",
    help={
        "files": "Some of the test files (default: all).",
        "unit": "Only what needs no Docker and no registries.",
        "keyword": "Only tests whose names match: pytest's -k.",
    },
)
def test(_context: Context, files: Sequence[str] = (), unit: bool = False, keyword: str | None = None) -> None:
    """Run all tests: unit, golden, and integration with Docker and the registries."""
    if not unit:
        from crosswheel.cli.doctor import prepare_for_tests

        prepare_for_tests(read_settings())
    choice = [*(["-m", "not integration"] if unit else []), *(["-k", keyword] if keyword else [])]
    raise Exit(code=_run(sys.executable, "-m", "pytest", "-q", *choice, *files))


@task()
def lint(_context: Context) -> None:
    """Run ruff, mypy --strict, import-linter and `check`."""
    commands = (
        (str(_BIN / "ruff"), "check", "."),
        (str(_BIN / "mypy"),),
        (str(_BIN / "lint-imports"),),
        (str(_BIN / "invoke"), "--search-root", str(DATA), "check"),
        (str(_BIN / "invoke"), "--search-root", str(DATA), "status", "--check"),
    )
    failed = [command for command in commands if _run(*command) != 0]
    for command in failed:
        print(f"failed: {' '.join(command)}", file=sys.stderr)
    if failed:
        raise Exit(code=1)


@task(rest="names", help={"names": "Some of the benchmarks (default: all).", "json": "Print JSON on stdout."})
def bench(_context: Context, names: Sequence[str] = (), json: bool = False) -> None:
    """Measure speed against the targets, and print a table with ratios taken in one run."""
    from crosswheel.cli.doctor import prepare_for_benchmarks

    prepare_for_benchmarks(read_settings())
    raise Exit(code=_run(sys.executable, "-m", "benchmarks", *(["--json"] if json else []), *names))
