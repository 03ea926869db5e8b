"""What there is of the projects that a wheel requires: on the package index, here, in the target's distribution.

The requirements of a wheel from the index are followed where the index serves its METADATA beside it (PEP 658), so
nothing is downloaded; those of one that lies here are read. The search is that of the wheelhouse
(:mod:`crosswheel.building.dependencies`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from crosswheel.building.dependencies import Served, serve
from crosswheel.building.sources.package_index import Page
from crosswheel.errors import CrosswheelError, FetchError, InputError
from crosswheel.planning.wheelhouse import IndexFile, Offer, index_offers, named, source_archives
from crosswheel.proving.dependencies import requirements_of
from crosswheel.proving.facts import read_headers, read_metadata
from crosswheel.proving.offered import Found, Kind, Offered
from crosswheel.spec.policy import Policy
from crosswheel.spec.requirements import Machine, holding, machine_of

MOST_PROJECTS = 300
"""So many projects are asked for at most: whoever made the wheel wrote their names. TensorFlow 2 requires some sixty,
by all that they require in turn."""

_KINDS: Mapping[str, Kind] = {"index": "index", "beside": "ours", "package": "package"}


class Index(Protocol):
    """See :class:`crosswheel.building.sources.package_index.PackageIndex`."""

    def pages(self, projects: Iterable[str]) -> Mapping[str, Page]: ...
    def papers(self, wheels: Iterable[tuple[str, str]]) -> Mapping[str, str | None]: ...


class Own(Protocol):
    """See :class:`crosswheel.building.own_wheels.OwnWheels`."""

    def wheels(self, name: NormalizedName) -> Iterable[Offer]: ...
    def package(self, name: NormalizedName) -> Offer | None: ...
    def recipe(self, name: str, asked: Iterable[Requirement]) -> tuple[str, str]: ...


def offered(
    file: str,
    metadata: Mapping[str, tuple[str, ...]] | None,
    policy: Policy,
    python: str | None,
    *,
    index: Index,
    own: Own,
) -> Offered:
    """What there is of all that the wheel ``file``, whose headers of METADATA are ``metadata``, requires on the target;
    ``python`` is the full version of the target's Python, where it is known. Where the index cannot be asked, that is
    in the answer."""
    known = named(file)
    required = requirements_of(metadata, policy, python)
    if known is None or not required:
        return Offered(python=python)
    root = Offer(name=known[0], version=known[1], origin="wheel", file=file)
    shelf = _AskedShelf(root=root, lines=_few(required), machine=machine_of(policy, python), index=index, own=own)
    try:
        shelf.look_ahead()
        return Offered(found=_found(shelf), unread=len(shelf.unread), python=python)
    except (FetchError, InputError) as error:
        return Offered(trouble=_first(error), python=python)


def for_a_build(lines: Sequence[str], machine: Machine, index: Index) -> Served:
    """The wheels of the index that serve what a build requires, and what these require in turn; first among the offers
    stands the build itself. ``InputError`` where they contradict each other, ``FetchError`` where pip does not run."""
    root = Offer(name=canonicalize_name("the-build-itself"), version=Version("0"), origin="wheel")
    shelf = _AskedShelf(root=root, lines=lines, machine=machine, index=index, own=_Nothing())
    shelf.look_ahead()
    return serve(root, shelf, machine)


class _Nothing:
    """No wheels but the index's: a builder has no others."""

    def wheels(self, name: NormalizedName) -> Iterable[Offer]:
        return ()

    def package(self, name: NormalizedName) -> Offer | None:
        return None

    def recipe(self, name: str, asked: Iterable[Requirement]) -> tuple[str, str]:
        return "", ""


def _few(required: Sequence[Requirement]) -> list[str]:
    """The requirements on the first projects."""
    names = list(dict.fromkeys(canonicalize_name(each.name) for each in required))[:MOST_PROJECTS]
    return [str(each) for each in required if canonicalize_name(each.name) in names]


def _first(error: CrosswheelError) -> str:
    return short(error.why or error.what)


def short(text: str) -> str:
    """The first line of what somebody said, without its end where it is long."""
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= 160 else f"{line[:160]}…"


@dataclass(kw_only=True)
class _AskedShelf:
    """See :class:`crosswheel.building.dependencies.Shelf`. ``lines`` are the requirements of the wheel ``root``;
    ``unread`` are the projects of which it is not known what they require."""

    root: Offer
    lines: Sequence[str]
    machine: Machine
    index: Index
    own: Own
    unread: set[str] = field(default_factory=set)
    _served: dict[str, list[Offer]] = field(default_factory=dict)
    _pinned: set[tuple[str, Version]] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)

    # --- what there is

    def look_ahead(self) -> None:
        """Asks the index for everything that will be wanted, a level of requirements at a time: the search itself asks
        for one thing after the other."""
        wanted = self._hold(self.lines)
        while (
            names := {canonicalize_name(each.name) for each in wanted if not each.url} - self._asked - {self.root.name}
        ):
            self._asked |= set(sorted(names)[: MOST_PROJECTS - len(self._asked)])
            self._pin(wanted)
            self.index.pages(self._asked)
            best = [self._best(each) for each in wanted if canonicalize_name(each.name) in names & self._asked]
            offers = [offer for offer in best if offer and self._tells(offer)]
            papers = self.index.papers((str(offer.name), offer.file) for offer in offers)
            wanted = [each for text in papers.values() for each in self._hold(_requires(text))]
            if len(self._asked) >= MOST_PROJECTS:
                break

    def _best(self, requirement: Requirement) -> Offer | None:
        offers = self._of_index(canonicalize_name(requirement.name))
        prereleases = bool(requirement.specifier.prereleases)
        return next((each for each in offers if requirement.specifier.contains(each.version, prereleases)), None)

    def offers(self, name: str) -> Iterator[Offer]:
        """The index's wheels, newest first; then those that lie here; then the distribution's package."""
        plain = canonicalize_name(name)
        if plain == self.root.name:
            yield self.root
            return
        yield from self._of_index(plain)
        yield from self.own.wheels(plain)
        package = self.own.package(plain)
        if package:
            yield package

    def _of_index(self, name: NormalizedName) -> list[Offer]:
        if name not in self._served:
            self._served[name] = index_offers(name, self.files(name), self.machine)
        return self._served[name]

    def page(self, name: str) -> Page:
        """What the index lists of a project; nothing where it is not asked, because others are too many."""
        if name not in self._asked and len(self._asked) >= MOST_PROJECTS:
            return Page(trouble=f"what is required are more than {MOST_PROJECTS} projects")
        self._asked.add(name)
        return self.index.pages([name])[name]

    def files(self, name: str) -> list[IndexFile]:
        """The files of a project. What was withdrawn (yanked) counts for pip where just this version is wanted."""
        files = self.page(name).files
        return [
            replace(item, yanked=False) if item.yanked and named(item.file) in self._pinned else item for item in files
        ]

    def sources(self, name: str) -> dict[Version, str]:
        """The source archives of a project by their versions."""
        return source_archives(canonicalize_name(name), self.files(name), self.machine)

    def why_none(self, name: str) -> str:
        return ""  # the rule has words of its own for it

    # --- what it requires

    def requires(self, offer: Offer) -> Sequence[str]:
        """The lines of Requires-Dist that are requirements; none where they are not known."""
        lines = self._lines(offer)
        if lines is None:
            self.unread.add(str(offer.name))
            return ()
        bad = {line for line, _ in holding(lines, self.machine)[1]}
        good = [line for line in lines if line not in bad]
        self._pin(holding(good, self.machine)[0])
        return good

    def _lines(self, offer: Offer) -> Sequence[str] | None:
        if offer.origin == "wheel":
            return self.lines
        if offer.origin == "package":
            return ()  # the distribution sees to it
        if offer.origin == "beside":
            try:
                headers = read_metadata(Path(offer.place))
            except InputError:
                return None
            return headers.get("requires-dist", ()) if headers is not None else None
        if not self._tells(offer):
            return None
        text = self.index.papers([(str(offer.name), offer.file)])[offer.file]
        return None if text is None else _requires(text)

    def _tells(self, offer: Offer) -> bool:
        if offer.origin != "index":
            return False
        return any(item.metadata for item in self.page(offer.name).files if item.file == offer.file)

    def _hold(self, lines: Iterable[str]) -> list[Requirement]:
        return holding(lines, self.machine)[0]

    def _pin(self, requirements: Iterable[Requirement]) -> None:
        """Remembers which versions are wanted by ``==``."""
        for each in requirements:
            for spec in each.specifier:
                if spec.operator == "==" and not spec.version.endswith(".*"):
                    self._pinned.add((canonicalize_name(each.name), Version(spec.version)))
                    self._served.pop(canonicalize_name(each.name), None)


def _requires(text: str | None) -> tuple[str, ...]:
    headers = read_headers(text.encode()) if text is not None else None
    return tuple(" ".join(line.split()) for line in (headers or {}).get("requires-dist", ()))


# --- what was found, in the words of the rule ------------------------------------------------------------------------


def _found(shelf: _AskedShelf) -> dict[str, Found]:
    served = serve(shelf.root, shelf, shelf.machine, older=False)  # pip builds source archives before it tries older
    found: dict[str, Found] = {}
    offers: dict[str, Offer | None] = {item.name: None for item in served.missing}
    offers |= {str(offer.name): offer for offer in served.offers[1:]}
    for name, offer in offers.items():
        asked = served.asked[name]
        root = str(shelf.root.name)
        texts = sorted({str(each) if parent == root else f"{each} (of {parent})" for each, parent in asked})
        basis = Found(asked=tuple(texts), kind="nothing", direct=any(parent == root for _, parent in asked))
        wanted = [each for each, _ in asked]
        found[name] = _served(basis, offer, wanted, shelf) if offer else _missing(basis, name, wanted, shelf)
    return found


def _served(basis: Found, offer: Offer, wanted: Sequence[Requirement], shelf: _AskedShelf) -> Found:
    told = replace(basis, kind=_KINDS[offer.origin], version=str(offer.version), file=offer.file)
    if offer.origin == "beside":
        told = replace(told, folder=str(Path(offer.place).parent))
    version, file = _source(offer.name, wanted, shelf)
    later = offer.origin != "package" and version is not None and version > offer.version
    return replace(told, newer=file) if later else told


def _source(name: str, wanted: Sequence[Requirement], shelf: _AskedShelf) -> tuple[Version | None, str]:
    """The newest source archive that serves."""
    found = {version: file for version, file in shelf.sources(name).items() if _serves(version, wanted)}
    return (max(found), found[max(found)]) if found else (None, "")


def _missing(basis: Found, name: str, wanted: Sequence[Requirement], shelf: _AskedShelf) -> Found:
    if any(each.url for each in wanted):
        return replace(basis, kind="address")
    page = shelf.page(name)
    recipe, build = shelf.own.recipe(name, wanted)
    told = replace(basis, recipe=recipe, build=build, fits=_fits(name, shelf))
    version, file = _source(name, wanted, shelf)
    if file:
        shelf.unread.add(name)
        return replace(told, kind="source", version=str(version), file=file)
    if page.trouble:
        return replace(basis, kind="unasked", why=short(page.trouble))
    return replace(told, why=_why(page, wanted))


def _why(page: Page, wanted: Sequence[Requirement]) -> str:
    """Why a project that an index may know has nothing that serves."""
    if not page.files:
        return "no index that pip uses here lists it"
    versions = {known[1]: item for item in page.files if (known := named(item.file))}
    inside = [version for version in versions if _serves(version, wanted)]
    if not inside:
        finals = [version for version in versions if not version.is_prerelease]
        return f"no version of it is in the range; the newest is {max(finals or versions)}"
    newest = max(inside)
    if versions[newest].yanked:
        return f"what is in the range was withdrawn (yanked): {newest}"
    if versions[newest].sha256 is None:
        return f"the index tells no sha256 of {newest}, so it is not counted"
    return f"{newest}, the newest in the range, has wheels for other machines or other Pythons alone"


def _fits(name: str, shelf: _AskedShelf) -> str:
    """The newest version with a wheel that the target takes; no pre-release where there is another."""
    versions = [offer.version for offer in shelf._of_index(canonicalize_name(name))]
    finals = [version for version in versions if not version.is_prerelease]
    return str(max(finals or versions)) if versions else ""


def _serves(version: Version, wanted: Iterable[Requirement]) -> bool:
    return all(each.specifier.contains(version, bool(each.specifier.prereleases)) for each in wanted)
