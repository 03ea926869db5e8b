"""Runs the steps that execute commands in a container, write rendered files, or take what the user gave."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from crosswheel.building.artefacts import Record
from crosswheel.building.diagnose import diagnose
from crosswheel.building.disk import no_space
from crosswheel.building.job import Cancelled, Container, Job, Mount
from crosswheel.building.remote.opening import Way, way
from crosswheel.building.sandbox import Sandbox
from crosswheel.building.store import Store
from crosswheel.digest import sha256_file, sha256_tree
from crosswheel.errors import InputError, StepError
from crosswheel.planning.steps import FilesStep, LocalStep, RenderedFile, RunStep

BUILD = PurePosixPath("/build")
"""The writable folder of a container: ``home``, ``out`` and the copies."""

_REMEMBERED_LINES = 50_000
_CONTAINER_FILE = "container.json"


def run_run(step: RunStep, inputs: Mapping[str, Path], job: Job, *, sandbox: Sandbox) -> None:
    """Runs the commands; see :class:`crosswheel.planning.steps.RunStep`. ``StepError`` with the lines that matter
    where one of them fails or an output is missing."""
    build = job.work / "build"
    for name in ("home", "out"):
        (build / name).mkdir(parents=True)
    for role, place in step.copies.items():
        copy_writable(inputs[role], _inside(build, place))
        if job.cancelled.is_set():
            raise Cancelled
    _write_sized(step, job, build)
    if PurePosixPath(step.cwd).is_relative_to(BUILD):
        _inside(build, step.cwd).mkdir(parents=True, exist_ok=True)
    with way(step, job, build, inputs["builder"]) as remote:
        _run_commands(step, inputs, job, build, sandbox, remote)
    _take_outputs(step, build / "out", job.out)


def _run_commands(
    step: RunStep, inputs: Mapping[str, Path], job: Job, build: Path, sandbox: Sandbox, remote: Way
) -> None:
    """Runs the commands one after the other. One that died for want of memory is tried once more with half the jobs,
    in the same folder, so that a build tool goes on from what it has done."""
    lines: deque[str] = deque(maxlen=_REMEMBERED_LINES)

    def log(line: str) -> None:
        lines.append(line)
        job.log(line)

    retried = False
    commands = deque(step.commands)
    while commands:
        argv = commands[0]
        container = _container(step, inputs, job, build)
        _save(step, argv, container, job.work)
        lines.clear()
        job.log(f"$ {shlex.join(argv)}")
        status = sandbox.run(
            replace(container, argv=(*remote.prefix, *argv), mounts=(*container.mounts, *remote.mounts)),
            log=log,
            cancelled=job.cancelled,
            label_key=job.key,
        )
        if status == 0:
            commands.popleft()
            continue
        fewer = max(1, job.settings.jobs // 2)
        if retried or fewer == job.settings.jobs or not diagnose(lines, status).out_of_memory:
            raise _failure(argv, status, lines, Store(job.settings.store))
        retried = True
        job.log(f"crosswheel: memory ran out with {job.settings.jobs} jobs; once more with {fewer}")
        job = replace(job, settings=replace(job.settings, jobs=fewer))
        _write_sized(step, job, build)


def _container(step: RunStep, inputs: Mapping[str, Path], job: Job, build: Path) -> Container:
    return Container(
        root=inputs["builder"],
        root_key=step.inputs["builder"].key,
        argv=(),
        env=_environment(step, job),
        cwd=step.cwd,
        mounts=(
            Mount(source=build, target=str(BUILD), writable=True),
            *(Mount(source=inputs[role], target=target) for role, target in step.mounts.items()),
            *(Mount(source=_cache(job, name), target=target, writable=True) for name, target in step.caches.items()),
        ),
        memory=job.settings.memory,
    )


def _cache(job: Job, name: str) -> Path:
    """The folder of a cache, which outlives the step and the build."""
    folder = Store(job.settings.store).cache(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_sized(step: RunStep, job: Job, build: Path) -> None:
    """Writes the files that say how large this machine is."""
    for place, text in step.sized_files.items():
        path = _inside(build, place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_sized(text, job), encoding="utf-8")


def _environment(step: RunStep, job: Job) -> dict[str, str]:
    """Nothing of this machine's environment is in it. The user has a name because Bazel, Java and getpass ask for
    one, and the container knows none for the caller's number."""
    return {
        "LANG": "C.UTF-8",
        "USER": "builder",
        "LOGNAME": "builder",
        **step.env,
        **{name: _sized(text, job) for name, text in step.sized_env.items()},
        "HOME": str(BUILD / "home"),
    }


def _sized(text: str, job: Job) -> str:
    """A text with this machine's jobs and memory."""
    return text.replace("{jobs}", str(job.settings.jobs)).replace("{memory}", str(job.settings.memory))


def _inside(build: Path, place: str) -> Path:
    """Where a path under /build lies on this machine."""
    path = PurePosixPath(place)
    if not path.is_relative_to(BUILD) or ".." in path.parts:
        raise ValueError(f"{place} is not under {BUILD}")
    return build / path.relative_to(BUILD)


def copy_writable(source: Path, target: Path) -> None:
    """Copies the contents of a folder, links as links, times kept; the copies are writable, and share their blocks
    with the originals where the file system can do that."""
    target.mkdir(parents=True, exist_ok=True)
    options = ("--recursive", "--no-dereference", "--preserve=mode,timestamps,links", "--reflink=auto")
    for argv in (
        ("cp", *options, f"{source}/.", str(target)),
        ("chmod", "--recursive", "u+rwX", str(target)),
    ):
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
        if done.returncode != 0:
            if "No space left on device" in done.stderr:
                raise OSError(errno.ENOSPC, "No space left on device", str(target))
            raise StepError("An input could not be copied.", why=done.stderr.strip()[-2000:])


def _failure(argv: Sequence[str], status: int, lines: Sequence[str], store: Store) -> Exception:
    found = diagnose(lines, status)
    command = shlex.join(argv)
    short = command if len(command) <= 200 else command[:200] + "…"
    if found.no_space:
        return no_space(store.root, "\n".join((f"$ {short}", *found.lines)))
    return StepError(
        f"The command `{short}` ended with exit status {status}.",
        why="\n".join(found.lines),
        hint=" ".join(text for text in (found.cause, found.advice) if text),
    )


def _take_outputs(step: RunStep, left: Path, out: Path) -> None:
    """Makes /build/out the result. What a container leaves is not trusted: it may have put a link there."""
    if left.is_symlink() or not left.is_dir():
        raise StepError("The commands put something else in the place of the folder /build/out.")
    for pattern in step.outputs:
        if not any(path.is_file() and not path.is_symlink() for path in left.glob(pattern)):
            there = sorted(path.relative_to(left).as_posix() for path in left.rglob("*"))
            raise StepError(
                f"The commands succeeded, and left nothing that matches {pattern} in /build/out.",
                why="They left: " + (", ".join(there[:20]) or "nothing") + (", …" if len(there) > 20 else ""),
            )
    out.rmdir()
    left.rename(out)


# --- the shell -------------------------------------------------------------------------------------------------------


def _save(step: RunStep, argv: Sequence[str], container: Container, work: Path) -> None:
    """Writes down what :func:`failed_container` needs. It names inputs by key and the build folder by its place in
    ``work``, because the folder moves when the step fails."""
    record = {
        "builder": container.root_key,
        "argv": list(argv),
        "env": dict(container.env),
        "cwd": container.cwd,
        "mounts": {target: step.inputs[role].key for role, target in step.mounts.items()},
        "caches": {target: name for name, target in step.caches.items()},
        "memory": container.memory,
    }
    (work / _CONTAINER_FILE).write_text(json.dumps(record, indent=1, sort_keys=True))


def open_shell(store: Store, key_or_prefix: str, sandbox: Sandbox) -> int:
    """Gives the user's terminal to a shell in the container of a step that failed with ``--keep-failed``, as it was
    when the step failed; returns the shell's exit status. ``InputError`` where there is no such step."""
    record = store.describe(key_or_prefix)
    saved = record.folder / "work" / _CONTAINER_FILE
    if record.state != "failed" or not saved.is_file():
        raise _no_container(record)
    data = json.loads(saved.read_text())
    root = _present(store, data["builder"])
    shell = next((path for path in ("/bin/bash", "/usr/bin/bash") if (root / path[1:]).exists()), "/bin/sh")
    container = Container(
        root=root,
        root_key=data["builder"],
        argv=(shell,),
        env=data["env"],
        cwd=data["cwd"],
        mounts=(
            Mount(source=saved.parent / "build", target=str(BUILD), writable=True),
            *(Mount(source=_present(store, key), target=target) for target, key in data["mounts"].items()),
            *(
                Mount(source=store.cache(name), target=target, writable=True)
                for target, name in data.get("caches", {}).items()
            ),
        ),
        memory=data["memory"],
    )
    print(f"The command that failed, in {container.cwd}:\n  {shlex.join(data['argv'])}")
    return sandbox.shell(container)


def _present(store: Store, key: str) -> Path:
    artefact = store.lookup(key)
    if artefact is None:
        raise InputError(
            "The container cannot be opened: one of its inputs has left the store.",
            where=key[:12],
            hint="Build again with `--keep-failed`.",
        )
    return artefact.path


def _no_container(record: Record) -> InputError:
    if record.state == "failed":
        what, hint = "This step's work folder was not kept.", "Build again with `--keep-failed`."
    else:
        what, hint = "There is no failed container of this step.", "`./x log KEY` shows what a step did."
    return InputError(what, where=f"{record.name} ({record.key[:12]})", hint=hint)


# --- steps without a container ---------------------------------------------------------------------------------------


def run_files(step: FilesStep, inputs: Mapping[str, Path], job: Job) -> None:
    """Writes the rendered files."""
    write_files(step.files, job.out)


def write_files(files: Mapping[str, RenderedFile], folder: Path) -> None:
    """Writes rendered files under ``folder``."""
    for name, file in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{name} leads out of the folder")
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.link:
            place.symlink_to(file.text)
            continue
        place.write_text(file.text, encoding="utf-8")
        place.chmod(0o755 if file.executable else 0o644)


def run_local(step: LocalStep, inputs: Mapping[str, Path], job: Job) -> None:
    """Takes a copy of what the user gave by ``--source``. ``InputError`` if it is not what it was when the build was
    planned: the key, and what is built from it, would not be the truth."""
    source = Path(step.path)
    try:
        if step.folder:
            shutil.copytree(source, job.out, symlinks=True, dirs_exist_ok=True)
            digest = sha256_tree(job.out)
        else:
            copy = shutil.copyfile(source, job.out / source.name)
            digest = sha256_file(copy)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise InputError("A source cannot be read.", where=step.path, why=str(error)) from error
    if digest != step.sha256:
        raise InputError(
            "A source has changed since the build was planned.",
            where=step.path,
            why=f"planned: sha256 {step.sha256}\nnow:     sha256 {digest}",
            hint="Start the build again once nothing writes to it.",
        )
