"""The task `matrix render`: the workflow by which GitHub or GitLab runs the nights."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from invoke.context import Context

from crosswheel.cli.arguments import task
from crosswheel.cli.command import COMMAND, as_typed
from crosswheel.cli.nights import Chosen, choose
from crosswheel.cli.settings import CHECKOUT
from crosswheel.errors import InputError, MachineError
from crosswheel.spec.ci import Ci
from crosswheel.spec.toml import load

Engine = Literal["github", "gitlab"]

FILES: dict[Engine, str] = {"github": ".github/workflows/nightly.yml", "gitlab": ".gitlab-ci.yml"}
"""Where each engine looks for it."""

JOBS = 8
"""How many jobs a night has where nobody says: each has its own part of the cache."""

_AT = re.compile(r"^([01]?[0-9]|2[0-3]):([0-5][0-9])$")


@task(
    name="render",
    numbers={"shards": int},
    help={
        "for_": "github or gitlab.",
        "out": "The file to write (default: where the engine looks for it).",
        "matrix": "The file of cells (default: matrix.toml of your data, else the shipped one).",
        "shards": "How many jobs a night has (default: 8, or one per cell where there are fewer).",
        "per-cell": "A job for each cell; as many shards as the engine allows where there are more.",
        "at": "When a night begins, in UTC (default: 01:17).",
        "check": "Only say whether the file is what is rendered: exit code 2 if not.",
    },
)
def render_task(
    _context: Context,
    for_: str,
    out: str | None = None,
    matrix: str | None = None,
    shards: int | None = None,
    per_cell: bool = False,
    at: str = "01:17",
    check: bool = False,
) -> None:
    """Write the workflow that runs the matrix every night: `./x matrix render --for github`."""
    if for_ not in FILES:
        raise InputError(f"nothing is rendered for {for_!r}", where="--for", hint="--for github, or --for gitlab")
    engine: Engine = for_
    file = Path(out or FILES[engine])
    chosen = choose(matrix, None, None)
    facts = load(Ci, chosen.catalog.layers.file("toolchains", "ci.toml"))
    names = shard_names(chosen, facts, engine, shards, per_cell=per_cell)
    given = _in_repository(Path(matrix), "--matrix") if matrix else None
    catalog = chosen.catalog
    own = _in_repository(catalog.own, "--data") if catalog.own != catalog.root else None
    words = _words(engine, out, given, shards, at, per_cell=per_cell)
    text = rendered(engine, facts, names, words, at=at, matrix=given, own=own)
    if check:
        _compare(file, text)
        return
    _write(file, text)
    print(f"wrote {file}: {len(names)} jobs for {len(chosen.whole.planned)} cells")


def shard_names(chosen: Chosen, facts: Ci, engine: Engine, shards: int | None, *, per_cell: bool) -> tuple[str, ...]:
    """The names of a night's jobs: the cell's where each has one, else which shard it is."""
    cells = [cell.id for cell in chosen.whole.planned]
    most = facts.github.jobs if engine == "github" else facts.gitlab.jobs
    if per_cell and shards is not None:
        raise InputError("--per-cell and --shards each say how many jobs there are", hint="give one of them")
    if shards is not None and shards < 1:
        raise InputError(f"--shards {shards} is no number of jobs", hint="give 1 or more")
    wanted = (len(cells) if per_cell else JOBS) if shards is None else shards
    count = max(1, min(wanted, len(cells), most if per_cell else len(cells)))
    if count == len(cells):
        return _in_shards(chosen, count)
    return tuple(f"shard {k} of {count}" for k in range(1, count + 1))


def _in_shards(chosen: Chosen, count: int) -> tuple[str, ...]:
    from crosswheel.planning.matrix import balanced, usual_minutes

    found = balanced(chosen.whole.planned, count, usual_minutes)
    return tuple(", ".join(cell.id for cell in shard) for shard in found)


def rendered(
    engine: Engine,
    facts: Ci,
    names: Sequence[str],
    again: Sequence[str],
    *,
    at: str,
    matrix: str | None = None,
    own: str | None = None,
) -> str:
    """The file's text. ``again`` are the words of the command that renders it; the file of the ``matrix`` and the
    folder of the user's ``own`` data are paths below the repository."""
    from crosswheel.publishing.workflows import Nightly, github, gitlab

    found = _AT.match(at)
    if not found:
        raise InputError(f"{at!r} is no time of a day", where="--at", hint="for example --at 01:17, which is in UTC")
    command, setup, options = _installed(own)
    night = Nightly(
        command=command,
        setup=setup,
        options=options,
        matrix=f"--matrix {shlex.quote(matrix)}" if matrix else "",
        again=" ".join([command, *map(shlex.quote, again), *([options] if options else [])]),
        shards=tuple(names),
        hour=int(found[1]),
        minute=int(found[2]),
    )
    return (github if engine == "github" else gitlab)(night, facts)


def _installed(own: str | None) -> tuple[str, tuple[str, ...], str]:
    """How crosswheel is run there, what comes before, and with which folder of data: a checkout runs itself; else the
    version that is installed here is installed there."""
    options = f"--data {shlex.quote(own)}" if own else ""
    if CHECKOUT:
        return COMMAND, (), options
    place = ".crosswheel/venv"
    setup = (f"python3 -m venv {place}", f"{place}/bin/pip install --quiet crosswheel=={version('crosswheel')}")
    return f"{place}/bin/{COMMAND}", setup, options


def _in_repository(path: Path, where: str) -> str:
    """A path as a job sees it, which runs in the folder of the repository. ``InputError`` for one that is elsewhere."""
    here = Path.cwd().resolve()
    found = path.expanduser().resolve()
    if not found.is_relative_to(here):
        raise InputError(
            "a job would not find this, since it is not in the repository",
            where=f"{where} {path}",
            why=f"the workflow is rendered in {here}, and jobs run in their checkout of it",
        )
    return found.relative_to(here).as_posix()


def _words(
    engine: Engine, out: str | None, matrix: str | None, shards: int | None, at: str, *, per_cell: bool
) -> list[str]:
    words = ["matrix", "render", "--for", engine]
    words += ["--out", out] if out else []
    words += ["--matrix", matrix] if matrix else []
    words += ["--shards", str(shards)] if shards is not None else []
    words += ["--per-cell"] if per_cell else []
    words += ["--at", at] if at != "01:17" else []
    return words


def _compare(file: Path, text: str) -> None:
    there = file.read_text(encoding="utf-8") if file.is_file() else None
    if there == text:
        print(f"{file} is what is rendered")
        return
    what = "is not there" if there is None else "is not what is rendered: the matrix, or crosswheel, has changed since"
    raise InputError(
        f"{file} {what}", where="--check", hint=as_typed("`./x matrix render`, with the same options, writes it")
    )


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MachineError(
            "the file could not be written", where=str(file), why=error.strerror or str(error)
        ) from error
