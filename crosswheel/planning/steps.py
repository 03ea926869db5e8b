"""The kinds of step, and the key of each.

A step's key is the sha256 of the canonical JSON of its kind, its schema version, its fields and the keys of its
inputs. What does not change the result (where a file can be had, a name for the screen) is not in it. When what a
step does with the same fields changes, its ``schema`` goes up by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import ClassVar

from crosswheel.digest import Json, sha256_bytes, sha256_json
from crosswheel.planning.remote import RemoteUse
from crosswheel.spec.sources import Place
from crosswheel.spec.sysroots import Suite


@dataclass(frozen=True, kw_only=True)
class Step:
    """One unit of work. ``name`` is for people; ``inputs`` maps a role to the step that gives it."""

    kind: ClassVar[str]
    schema: ClassVar[int] = 1

    name: str
    inputs: Mapping[str, Step] = field(default_factory=dict)

    def fields(self) -> dict[str, Json]:
        """What the result depends on, apart from the inputs."""
        raise TypeError(f"{type(self).__name__} is not a kind of step")

    def described(self) -> dict[str, Json]:
        """What the key is made of."""
        return {
            "kind": self.kind,
            "schema": self.schema,
            "fields": self.fields(),
            "inputs": {role: step.key for role, step in self.inputs.items()},
        }

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits."""
        return sha256_json(self.described())

    def walk(self) -> Iterator[Step]:
        """This step and all it needs, inputs first, each key once."""
        seen: set[str] = set()
        yield from self._walk(seen)

    def _walk(self, seen: set[str]) -> Iterator[Step]:
        if self.key in seen:
            return
        seen.add(self.key)
        for step in self.inputs.values():
            yield from step._walk(seen)
        yield self


@dataclass(frozen=True, kw_only=True)
class FetchStep(Step):
    """Gets one file. Result: ``out/<file>``, whose sha256 is ``sha256``; ``executable`` sets its mode."""

    kind: ClassVar[str] = "fetch"

    file: str
    sha256: str
    places: tuple[Place, ...]
    executable: bool = False

    def fields(self) -> dict[str, Json]:
        return {"file": self.file, "sha256": self.sha256, "executable": self.executable}


@dataclass(frozen=True, kw_only=True)
class LocalStep(Step):
    """Takes a file or a folder that the user named. Result: ``out/<file>``, or the folder's copy in ``out/``.

    ``sha256`` is that of the file, or of the tree (:func:`crosswheel.digest.sha256_tree`).
    """

    kind: ClassVar[str] = "local"
    schema: ClassVar[int] = 2

    path: str
    sha256: str
    folder: bool

    @property
    def file(self) -> str:
        """The file's name, which says what it is; empty for a folder, whose name says nothing."""
        return "" if self.folder else PurePosixPath(self.path).name

    def fields(self) -> dict[str, Json]:
        return {"sha256": self.sha256, "file": self.file}


@dataclass(frozen=True, kw_only=True)
class LockStep(Step):
    """Resolves packages in a private apt root. Result: ``out/lock.json``.

    ``pinned`` is the text of a lock in the written data; then nothing is resolved, and the result is that text.
    ``architecture`` is Debian's name (``arm64``). ``snapshot`` is the time of the dated snapshot that serves where
    the machine has no mirror of the archive. ``lock`` is the name of the pinned lock, there or not: it is what
    ``sysroot lock`` renews. Without ``dependencies``, nothing is taken but ``packages``. ``vendors`` says whose
    packages an archive has, for the record of a build.

    Inputs: a package with an archive in it, by the archive's name. It must be signed as every archive, unless it is
    one of ``vouched``, whose bytes somebody has named by their sha256.
    """

    kind: ClassVar[str] = "lock"

    lock: str
    architecture: str
    suites: tuple[Suite, ...]
    packages: tuple[str, ...]
    snapshot: str
    pinned: str | None = None
    dependencies: bool = True
    vouched: tuple[str, ...] = ()
    vendors: Mapping[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, Json]:
        return {
            "architecture": self.architecture,
            "suites": [suite.model_dump(mode="json") for suite in self.suites],
            "packages": sorted(self.packages),
            "snapshot": self.snapshot,
            "pinned": self.pinned,
            **({} if self.dependencies else {"dependencies": False}),
        }


@dataclass(frozen=True, kw_only=True)
class RootStep(Step):
    """Downloads and extracts the packages of the input ``lock``. Result: ``out/`` is the root, with relative links,
    a merged /usr and no dangling ``.so``; ``lock.json`` is kept in ``out/.crosswheel/``. Of a lock without
    dependencies, ``.so`` links may dangle: what they lead to is in another part.

    Inputs besides: the packages with archives in them that the lock has as its inputs."""

    kind: ClassVar[str] = "root"
    schema: ClassVar[int] = 2

    def fields(self) -> dict[str, Json]:
        return {}


@dataclass(frozen=True, kw_only=True)
class ImageStep(Step):
    """Builds a Dockerfile and takes the files of the image. Result: ``out/`` is the root, as :class:`RootStep` makes
    it. ``image`` is what it is ``FROM``, by digest."""

    kind: ClassVar[str] = "image"

    image: str
    dockerfile: str

    def fields(self) -> dict[str, Json]:
        return {"dockerfile": self.dockerfile}


@dataclass(frozen=True, kw_only=True)
class PatchText:
    """A patch as it is applied."""

    file: str
    text: str


@dataclass(frozen=True, kw_only=True)
class TreeStep(Step):
    """Unpacks the input ``archive`` (a file or a folder), applies patches in order, adds files. Result: ``out/``.

    A single folder at the top of the archive is stripped.
    """

    kind: ClassVar[str] = "tree"

    patches: tuple[PatchText, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, Json]:
        return {
            "patches": [{"file": p.file, "sha256": sha256_bytes(p.text.encode())} for p in self.patches],
            "files": dict(self.files),
        }


@dataclass(frozen=True, kw_only=True)
class RepositoryCacheStep(Step):
    """Lays files out as Bazel's repository cache has them, so that it finds what it would download. Inputs: one
    :class:`FetchStep` or file for each external. Result: ``out/content_addressable/sha256/<sha256>/file``."""

    kind: ClassVar[str] = "cache"

    def fields(self) -> dict[str, Json]:
        return {}


@dataclass(frozen=True, kw_only=True)
class RenderedFile:
    """A file that planning wrote; with ``link``, a symbolic link to ``text``."""

    text: str
    executable: bool = False
    link: bool = False


@dataclass(frozen=True, kw_only=True)
class FilesStep(Step):
    """Writes rendered files. Result: ``out/<path>`` for each."""

    kind: ClassVar[str] = "files"

    files: Mapping[str, RenderedFile]

    def fields(self) -> dict[str, Json]:
        return {
            path: {"text": file.text, "executable": file.executable, "link": file.link}
            for path, file in self.files.items()
        }


@dataclass(frozen=True, kw_only=True)
class RunStep(Step):
    """Runs commands in a container made of the input ``builder``. Result: ``out/`` is what they left in ``/build/out``.

    The container has no network, no capabilities and a read-only root; ``/build`` and ``/tmp`` are writable.
    ``mounts`` maps a role of the inputs to the read-only path where its result is seen, ``copies`` to a path under
    ``/build`` where a writable copy of it lies. ``outputs`` are glob patterns in ``/build/out``, each of which must
    match at least one file. The commands run one after the other in ``cwd``.

    How many jobs may run and how much memory there is are facts of the machine, and in no key: in ``sized_env``
    (variables) and ``sized_files`` (path under ``/build`` → text), ``{jobs}`` and ``{memory}`` (MiB) stand for them.

    ``caches`` maps the name of a folder that outlives the step (in the store's ``caches``) to the writable path where
    it is seen. It is in no key: what is in it may save work, and must not change the result. Nor is ``remote``, which
    is there where Bazel runs.
    """

    kind: ClassVar[str] = "run"

    commands: tuple[tuple[str, ...], ...]
    env: Mapping[str, str]
    cwd: str
    mounts: Mapping[str, str]
    copies: Mapping[str, str]
    outputs: tuple[str, ...]
    sized_env: Mapping[str, str] = field(default_factory=dict)
    sized_files: Mapping[str, str] = field(default_factory=dict)
    caches: Mapping[str, str] = field(default_factory=dict)
    remote: RemoteUse | None = None

    def fields(self) -> dict[str, Json]:
        return {
            "commands": [list(command) for command in self.commands],
            "env": dict(self.env),
            "cwd": self.cwd,
            "mounts": dict(self.mounts),
            "copies": dict(self.copies),
            "outputs": list(self.outputs),
            "sized_env": dict(self.sized_env),
            "sized_files": dict(self.sized_files),
        }


@dataclass(frozen=True, kw_only=True)
class WheelStep(Step):
    """Takes the one wheel that the input ``run`` left, checks its name and version, and writes it anew with sorted
    members, fixed times and modes, and a fresh RECORD. Result: ``out/<wheel>``.

    ``distribution`` and ``version`` are what the recipe promised; ``tag`` is the full tag, such as
    ``cp311-cp311-linux_aarch64``. ``build`` is the build tag that the wheel gets; without one it keeps what it has.
    """

    kind: ClassVar[str] = "wheel"

    distribution: str
    version: str
    tag: str
    build: str = ""

    def fields(self) -> dict[str, Json]:
        return {
            "distribution": self.distribution,
            "version": self.version,
            "tag": self.tag,
            **({"build": self.build} if self.build else {}),
        }


@dataclass(frozen=True, kw_only=True)
class BundleStep(Step):
    """Packs what the input ``run`` left, and rendered files of the input ``files`` if there is one, below a folder
    ``stem``, with sorted members and fixed times, modes and owners. Result: ``out/<stem>.tar.gz``."""

    kind: ClassVar[str] = "bundle"

    stem: str

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.stem}.tar.gz"

    def fields(self) -> dict[str, Json]:
        return {"stem": self.stem}


@dataclass(frozen=True, kw_only=True)
class BundleProofStep(Step):
    """Judges the bundle of the input ``bundle``. Result: ``out/proof.json``
    (:class:`crosswheel.proving.prove.Proof`).

    Inputs: ``bundle``, ``root`` (the target's runtime root), ``emulator`` (a root with qemu-user), ``trial`` (what the
    attempts need, if they need anything), and other recipes' bundles, unpacked. ``policy`` is the JSON of a
    :class:`crosswheel.spec.policy.Policy`, ``attempts`` that of each :class:`crosswheel.spec.outputs.Attempt`.
    ``version`` is what ``{version}`` in them stands for, ``timeout`` that of each in seconds. A failing proof is a
    result like any other: the step succeeds.
    """

    kind: ClassVar[str] = "bundle-proof"

    policy: Mapping[str, Json]
    attempts: tuple[Mapping[str, Json], ...]
    version: str
    timeout: int
    rules: Mapping[str, int]

    def fields(self) -> dict[str, Json]:
        return {
            "policy": dict(self.policy),
            "attempts": [dict(attempt) for attempt in self.attempts],
            "version": self.version,
            "timeout": self.timeout,
            "rules": dict(self.rules),
        }


@dataclass(frozen=True, kw_only=True)
class ProofStep(Step):
    """Judges the wheel of the input ``wheel``. Result: ``out/proof.json`` (:class:`crosswheel.proving.prove.Proof`).

    Inputs: ``wheel``, ``root`` (the target's runtime root), ``emulator`` (a root with qemu-user), ``source`` (the
    release's patched tree, with its tests, where the check needs it), and wheels that the check needs, each unpacked;
    with ``install`` they are files, from which the target's pip installs what the wheel requires. ``policy`` is the
    JSON of a :class:`crosswheel.spec.policy.Policy`. ``check`` is the text of the check's script, ``tests`` how many
    tests must pass, ``timeout`` in seconds; with an empty ``check`` the wheel is imported, and no more. ``built_here``
    says that crosswheel built the wheel, ``elsewhere`` which libraries whoever installs it brings. A failing proof is a
    result like any other: the step succeeds.
    """

    kind: ClassVar[str] = "proof"
    schema: ClassVar[int] = 2

    policy: Mapping[str, Json]
    check: str
    tests: int
    timeout: int
    install: bool
    rules: Mapping[str, int]
    built_here: bool
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, Json]:
        return {
            "policy": dict(self.policy),
            "check": self.check,
            "tests": self.tests,
            "timeout": self.timeout,
            "install": self.install,
            "rules": dict(self.rules),
            "built_here": self.built_here,
            **({"elsewhere": dict(self.elsewhere)} if self.elsewhere else {}),
        }
