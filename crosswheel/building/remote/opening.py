"""Opens the way to the remote cache for one step, and closes it when the step has ended."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from crosswheel.building.job import Job, Mount
from crosswheel.building.remote import relay
from crosswheel.building.remote.endpoints import HTTP, Remote
from crosswheel.building.remote.tally import Tally
from crosswheel.building.sandbox import ORDINARY_USER
from crosswheel.digest import Json, sha256_bytes
from crosswheel.errors import InputError
from crosswheel.planning.steps import RunStep, Step
from crosswheel.spec.targets import BazelRemote

FOLDER = "/remote"
"""Where the sockets and the relay are seen in the container."""

PYTHON = "usr/bin/python3"
"""The builder's Python, which runs the relay."""

PORTS = {"cache": 8980, "executor": 8981}
"""On the container's own loopback device, where nobody else listens."""

NOTE = "remote"
"""What it is called in an artefact's meta.json and in a proof's ``build``."""

_BAZELRC = "home/.bazelrc"
_LINES = "machine/remote.bazelrc"
"""Below /build."""


class Forwarder(Protocol):
    """What stands between the container and one endpoint."""

    tally: Tally

    def probe(self) -> str: ...

    def start(self, path: Path) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Way:
    """What a container needs besides: the folder with the sockets, and the relay before each command."""

    mounts: tuple[Mount, ...] = ()
    prefix: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Open:
    """The endpoints that answered, by what they are for."""

    forwarders: dict[str, Forwarder] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)


@contextmanager
def way(step: RunStep, job: Job, build: Path, builder: Path) -> Iterator[Way]:
    """The way to the user's endpoints while the step's commands run; none where the user names none, the step runs no
    Bazel, or no endpoint answers. ``build`` is the folder that the container sees as /build, ``builder`` its root. What
    came of it stands in the job's notes."""
    remote = job.settings.remote
    if remote is None or step.remote is None:
        yield Way()
        return
    if not os.path.lexists(builder / PYTHON):
        job.log(f"crosswheel: the builder has no /{PYTHON}: the build does without the remote cache")
        yield Way()
        return
    with ExitStack() as stack:
        opened = _opened(remote, step, job, stack)
        if not opened.forwarders:
            job.notes[NOTE] = _note(remote, opened)
            yield Way()
            return
        folder = _folder(stack)
        for name, forwarder in opened.forwarders.items():
            forwarder.start(folder / name)
            _own(folder / name)
        stack.callback(_end, build, remote, opened, job)
        _write_bazelrc(build, flags(step.remote.flags, remote, opened.urls, step.remote.tools))
        yield Way(
            mounts=(Mount(source=folder, target=FOLDER),),
            prefix=(
                *(f"/{PYTHON}", "-I", "-S", f"{FOLDER}/relay.py"),
                *(f"{PORTS[name]}={FOLDER}/{name}" for name in opened.forwarders),
                "--",
            ),
        )


def refuse_executor(steps: Iterable[Step], remote: Remote | None) -> None:
    """``InputError`` for a step whose Bazel cannot be told which tools an executor must have; told before anything
    runs."""
    if remote is None or not remote.runs_elsewhere:
        return
    for step in steps:
        if isinstance(step, RunStep) and step.remote and not step.remote.flags.executor:
            raise InputError(
                f"Bazel {step.remote.bazel} cannot be used with an executor.",
                where=step.name,
                why="It cannot say which tools an action needs, so any worker might run it with others.",
                hint="leave `executor` out of the settings, or take a later Bazel: --tool bazel=0.23.0 or above",
            )


def kept_apart(tools: str) -> Callable[[str], str]:
    """Gives an action's result a name of its own for each set of ``tools``: the builder, the sysroot and the compilers,
    of which Bazel's own digest of an action knows nothing, because they are no files of its workspace."""

    def changed(digest: str) -> str:
        return sha256_bytes(f"{tools} {digest}".encode())

    return changed


def flags(known: BazelRemote, remote: Remote, urls: Mapping[str, str], tools: str) -> list[str]:
    """What Bazel is told; ``urls`` has the endpoints that answered."""
    words = {"{tools}": tools, "{instance}": remote.instance}
    chosen = [*known.always]
    if cache := urls.get("cache"):
        words["{address}"] = f"127.0.0.1:{PORTS['cache']}"
        chosen += known.http if urlsplit(cache).scheme in HTTP else known.grpc
    if "executor" in urls:
        words["{executor}"] = f"127.0.0.1:{PORTS['executor']}"
        chosen += known.executor
    if not remote.upload:
        chosen += known.read_only
    if remote.instance:
        chosen += known.instance
    return [_filled(flag, words) for flag in chosen]


def _filled(flag: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        flag = flag.replace(word, value)
    return flag


def _opened(remote: Remote, step: RunStep, job: Job, stack: ExitStack) -> _Open:
    assert step.remote
    opened = _Open()
    executor = remote.runs_elsewhere
    if remote.executor and not executor:
        job.log("crosswheel: nothing is to be uploaded, so nothing runs on the executor")
    apart = kept_apart(step.remote.tools)
    # What an executor keeps, it keeps by Bazel's digest; there the tools are a property of the platform.
    changed = _same if executor else apart
    for name, url in (("cache", remote.cache), ("executor", executor)):
        if not url:
            continue
        title = "remote cache" if name == "cache" else "executor"
        forwarder = _forwarder(url, remote, Tally(title, job.log), changed, executes=name == "executor")
        stack.callback(forwarder.stop)
        why = forwarder.probe()
        if why:
            job.log(f"crosswheel: the {title} {url} cannot be used ({why}); the build goes on without it")
            forwarder.tally.add(away=1)
            continue
        opened.forwarders[name] = forwarder
        opened.urls[name] = url
        more = f"; workers have the property crosswheel={step.remote.tools}" if name == "executor" else ""
        more += "" if remote.upload else ", and nothing is sent to it"
        job.log(f"crosswheel: the {title} {url} is used{more}")
    return opened


def _forwarder(url: str, remote: Remote, tally: Tally, changed: Callable[[str], str], *, executes: bool) -> Forwarder:
    if urlsplit(url).scheme in HTTP:
        from crosswheel.building.remote.http import HttpForwarder

        return HttpForwarder(url, remote, tally, changed)
    from crosswheel.building.remote.rpc import RpcForwarder

    return RpcForwarder(url, remote, tally, changed, executes=executes)


def _same(digest: str) -> str:
    return digest


def _folder(stack: ExitStack) -> Path:
    """A folder with the relay and room for sockets, which only the container's user may enter: whoever reaches a socket
    has the user's credentials. It is not in the store, whose path may be too long for a socket."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crosswheel-remote-")))
    shutil.copyfile(relay.__file__, folder / "relay.py")
    for path in (folder, folder / "relay.py"):
        _own(path)
    return folder


def _own(path: Path) -> None:
    """Gives a path to the container's user."""
    if os.geteuid() == 0:
        os.chown(path, ORDINARY_USER, ORDINARY_USER)
    path.chmod(0o700)


def _write_bazelrc(build: Path, chosen: list[str]) -> None:
    """The lines are in a file of their own, at the end of the user's .bazelrc: what is read last wins."""
    lines = build / _LINES
    lines.parent.mkdir(parents=True, exist_ok=True)
    # A line is split as a shell would split it.
    lines.write_text("".join(f"build {shlex.quote(flag)}\n" for flag in chosen), encoding="utf-8")
    with (build / _BAZELRC).open("a", encoding="utf-8") as stream:
        stream.write(f"import /build/{_LINES}\n")


def _end(build: Path, remote: Remote, opened: _Open, job: Job) -> None:
    """Tells what came of it. A shell that is opened later in the kept folder has no way."""
    (build / _LINES).write_text("", encoding="utf-8")
    for forwarder in opened.forwarders.values():
        job.log(forwarder.tally.summary())
    job.notes[NOTE] = _note(remote, opened)


def _note(remote: Remote, opened: _Open) -> Json:
    def one(name: str, url: str | None) -> Json:
        if url is None:
            return None
        forwarder = opened.forwarders.get(name)
        return {"url": url, "reached": forwarder is not None, **(forwarder.tally.record() if forwarder else {})}

    return {
        "cache": one("cache", remote.cache),
        "executor": one("executor", remote.runs_elsewhere),
        "upload": remote.upload,
    }
