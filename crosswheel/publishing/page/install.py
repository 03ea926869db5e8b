"""The line that installs a wheel on its target: what really works there, and is safe.

The index of a target holds proved wheels alone, and pip is told to look nowhere else (``--index-url``). pip prefers a
``manylinux`` wheel to a ``linux`` one of the same version, and takes the higher version whichever index has it. So with
``--extra-index-url`` the package index would win over ours: a wheel that needs AVX, or a stranger's of the same name.
What the wheel requires and the index does not hold comes in a second call, when the wheel is there already.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from crosswheel.errors import InputError
from crosswheel.publishing.page.cells import Cell
from crosswheel.publishing.page.wheels import Proved

_LOCAL = ("localhost", "127.0.0.1", "::1")
"""pip trusts these without https (pip's ``SECURE_ORIGINS``)."""


@dataclass(frozen=True, kw_only=True)
class Install:
    """How a wheel is installed. ``system`` installs packages of the target's distribution first; ``line`` is for pip,
    with a second call behind ``&&`` where there is one; ``exact`` takes the file itself by its sha256; both are empty
    where they cannot be. ``missing`` are the projects that come from the package index, ``said`` says what to know."""

    system: str
    line: str
    exact: str
    missing: tuple[str, ...]
    said: tuple[str, ...]


def index_base(url: str) -> str:
    """An index's address without the slash at its end. ``InputError`` for one that pip could not use, or that would
    show a password to every reader."""
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username or parts.password
    except ValueError as error:
        raise InputError(f"{url!r} is no address", where="--index-url", why=str(error)) from error
    if parts.scheme not in ("https", "http", "file") or (parts.scheme != "file" and not host):
        raise InputError(f"{url!r} is no address of an index", where="--index-url", hint="https://HOST/PATH")
    if user or parts.query or parts.fragment:
        why = "the page shows the address to everyone, and pip appends to it"
        hint = "give it without a user, a password, `?` and `#`; pip takes those from ~/.netrc"
        raise InputError("the address has more than a place in it", where="--index-url", why=why, hint=hint)
    if not url.isprintable() or any(char in url for char in " \"'<>\\`"):
        raise InputError(f"{url!r} is no address", where="--index-url", hint="write such characters as %XX")
    return url.rstrip("/")


@dataclass(frozen=True)
class Installer:
    """Makes the lines for wheels of an index at ``base``; without one, for a wheel that was copied to the machine.

    ``cells`` are all cells: what a wheel requires may be another one of its target. ``runtime`` are the packages of a
    distribution that a recipe's wheels load: recipe → sysroot → packages."""

    base: str
    cells: Sequence[Cell]
    runtime: Mapping[str, Mapping[str, tuple[str, ...]]]

    def of(self, cell: Cell) -> Install | None:
        """How the wheel of a cell is installed; None where there is none to install."""
        if cell.id not in self._known:
            self._known[cell.id] = self._of(cell)
        return self._known[cell.id]

    @cached_property
    def _known(self) -> dict[str, Install | None]:
        """What was worked out already: several pages show a cell's line."""
        return {}

    def _of(self, cell: Cell) -> Install | None:
        proved = cell.proved
        if proved is None or not cell.offered:
            return None
        packages = self.runtime.get(cell.recipe, {}).get(proved.proof.policy.sysroot, ())
        system = shlex.join(["sudo", "apt-get", "install", *packages]) if packages else ""
        exact = self._exact(proved)
        if not self.base:
            said = ("Copy the wheel to the machine first: this page was made without the address of an index.",)
            line = self._pip(proved, f"./{proved.proof.file}")
            return Install(system=system, line=line, exact="", missing=(), said=said)
        beside, missing = self._closure(proved)
        line = self._line(proved, cell.cpu, beside, missing)
        return Install(system=system, line=line, exact=exact, missing=missing, said=self._said(missing, beside))

    def _pip(self, proved: Proved, *words: str) -> str:
        return shlex.join([f"python{proved.proof.policy.python}", "-m", "pip", "install", *words])

    def _line(self, proved: Proved, cpu: str | None, beside: Sequence[Proved], missing: Sequence[str]) -> str:
        # pip cannot know a processor: wheels for another than the target's own are in an index of their own.
        folder = "/".join(quote(part, safe="") for part in (proved.proof.policy.target, cpu) if part)
        place = f"{self.base}/{folder}/simple/"
        trusted = self._trusted()
        own = self._pin(proved)
        if not missing:
            return self._pip(proved, *trusted, "--index-url", place, own)
        pins = [self._pin(each) for each in beside]
        first = self._pip(proved, "--no-deps", *trusted, "--index-url", place, own, *pins)
        return f"{first} && {self._pip(proved, own)}"

    def _trusted(self) -> list[str]:
        parts = urlsplit(self.base)
        if parts.scheme != "http" or parts.hostname in _LOCAL:
            return []
        return ["--trusted-host", str(parts.hostname)]  # without a port, which older pips do not know here

    def _exact(self, proved: Proved) -> str:
        if not self.base:
            return ""
        url = f"{self.base}/wheels/{quote(proved.path)}#sha256={proved.proof.sha256}"
        return self._pip(proved, *self._trusted(), url)

    def _pin(self, proved: Proved) -> str:
        """``==`` takes versions with any local part as well, and pip the highest of them: where a target has several,
        ``===`` takes this one."""
        version = Version(proved.wheel_version)
        same = {other.wheel_version for other in self._offered.get((*_place(proved), proved.distribution), ())}
        alike = any(Version(each).public == version.public for each in same - {proved.wheel_version})
        return f"{proved.distribution}{'===' if alike and not version.local else '=='}{proved.wheel_version}"

    @cached_property
    def _offered(self) -> Mapping[tuple[str, str, str], list[Proved]]:
        """What the indexes have, by target, Python and project."""
        found: dict[tuple[str, str, str], list[Proved]] = {}
        for cell in self.cells:
            if cell.proved and cell.offered:
                found.setdefault((*_place(cell.proved), cell.proved.distribution), []).append(cell.proved)
        return found

    @cached_property
    def _for_cpus(self) -> frozenset[str]:
        """The paths of the wheels that are for another processor than the target's own."""
        return frozenset(cell.proved.path for cell in self.cells if cell.proved and cell.cpu)

    def _closure(self, proved: Proved) -> tuple[tuple[Proved, ...], tuple[str, ...]]:
        """The wheels of the target's index that a wheel requires, and theirs; and the names of what is not in it."""
        beside: dict[str, Proved] = {}
        missing: dict[str, None] = {}
        waiting = [proved]
        while waiting:
            for text in _needs(waiting.pop()):
                requirement = _requirement(text)
                name = canonicalize_name(requirement.name) if requirement else text
                if name == proved.distribution or name in beside or name in missing:
                    continue
                there = self._offered.get((*_place(proved), name), ()) if requirement else ()
                plain = (each for each in there if each.path not in self._for_cpus)
                fitting = [each for each in plain if requirement and _fits(requirement, each)]
                if fitting:
                    beside[name] = max(fitting, key=lambda each: Version(each.wheel_version))
                    waiting.append(beside[name])
                else:
                    missing[name] = None
        return tuple(beside[name] for name in sorted(beside)), tuple(sorted(missing))

    def _said(self, missing: Sequence[str], beside: Sequence[Proved]) -> tuple[str, ...]:
        said = []
        if missing:
            names = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
            said.append(
                f"The first call takes the wheel from this index and from nowhere else; the second one brings what it "
                f"requires from your package index: {names}."
            )
        if beside:
            names = ", ".join(f"{each.distribution} {each.wheel_version}" for each in beside)
            said.append(f"It requires {names}, which this index has for this machine.")
        if urlsplit(self.base).scheme == "http" and urlsplit(self.base).hostname not in _LOCAL:
            said.append("This index is served without https: whoever is between can change what you install.")
        return tuple(said)


def _place(proved: Proved) -> tuple[str, str]:
    return proved.proof.policy.target, proved.proof.policy.python


def _needs(proved: Proved) -> tuple[str, ...]:
    """What a wheel requires. Where that is not known, something unknown: then pip has to look."""
    return ("its requirements",) if proved.requires is None else proved.requires


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _fits(requirement: Requirement, proved: Proved) -> bool:
    return not requirement.url and requirement.specifier.contains(proved.wheel_version, prereleases=True)
