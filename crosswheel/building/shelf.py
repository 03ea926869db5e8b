"""The wheels that can be had for a target: those of our recipes, those of a recipe's check, those of the index."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import compat32
from pathlib import Path

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from crosswheel.building.artefacts import Artefact
from crosswheel.building.dependencies import Refused
from crosswheel.building.sources.index import list_project
from crosswheel.digest import sha256_file
from crosswheel.errors import InputError
from crosswheel.planning.fitting import misfit
from crosswheel.planning.plan import Plan, plan, verification
from crosswheel.planning.resolve import AVX, Request, resolve
from crosswheel.planning.sources import LocalSource, fetch_step, serves
from crosswheel.planning.steps import Step
from crosswheel.planning.trial import CHECK_WHEEL
from crosswheel.planning.wheelhouse import IndexFile, Offer, index_offers, named, source_archives
from crosswheel.proving.prove import Proof
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.requirements import Machine
from crosswheel.spec.sources import CheckWheel, Place, Source

Make = Callable[[Sequence[Step]], Mapping[str, Artefact]]
"""Executes steps; the artefacts by their keys."""


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A wheel that is here. ``planned`` and ``proof`` (the file) are those of a wheel that was built for the target;
    ``judged`` is ``proved`` (its check ran), ``read`` (a compiled wheel that the rules pass, and nothing ran) or
    ``pure``."""

    wheel: Path
    judged: str
    planned: Plan | None = None
    proof: Path | None = None


@dataclass(kw_only=True)
class TargetShelf:
    """See :class:`crosswheel.building.dependencies.Shelf`. ``root`` is the plan of the wheel that was asked for, and
    ``wheel`` that wheel with its ``proof``. ``request`` is what was asked; with ``offline`` no index is asked."""

    root: Plan
    wheel: Path
    proof: Path
    request: Request
    catalog: Catalog
    machine: Machine
    rules: Mapping[str, int]
    make: Make
    offline: bool = False
    listed: Callable[[str], Sequence[IndexFile]] = list_project
    _offers: dict[tuple[str, str], list[Offer]] = field(default_factory=dict)
    _unfit: set[tuple[str, str, str]] = field(default_factory=set)
    _pages: dict[str, Sequence[IndexFile]] = field(default_factory=dict)
    _brought: dict[tuple[str, str, str], Brought] = field(default_factory=dict)
    _refused: dict[str, list[str]] = field(default_factory=dict)

    @property
    def asked(self) -> Offer:
        """The wheel that was asked for, as an offer."""
        chosen = self.root.resolution
        return Offer(
            name=canonicalize_name(chosen.recipe.distribution),
            version=Version(chosen.release.version),
            origin="wheel",
            file=self.wheel.name,
            place=f"recipe {chosen.recipe.name} {chosen.release.version}",
        )

    # --- what there is

    def offers(self, name: str) -> Iterator[Offer]:
        """Ours first, newest first; then those that the recipe's check was proved with; then the index's, which is not
        asked before these are looked at."""
        plain = canonicalize_name(name)
        asked = self.asked
        if plain == asked.name:
            yield asked
            return
        for part in (self._ours, self._checks, self._index):
            if (name, part.__name__) not in self._offers:
                self._offers[name, part.__name__] = list(part(plain))
            yield from [each for each in self._offers[name, part.__name__] if _key(each) not in self._unfit]

    def _ours(self, name: NormalizedName) -> Iterator[Offer]:
        system = self.root.resolution.system
        for recipe in map(self.catalog.recipe, self.catalog.recipe_names):
            if not recipe.distribution or canonicalize_name(recipe.distribution) != name:
                continue
            for release in self.catalog.releases(recipe.name):
                if misfit(release, system, self.catalog) is None:
                    version = Version(release.version)
                    yield Offer(name=name, version=version, origin="recipe", recipe=recipe.name, release=release)

    def _checks(self, name: NormalizedName) -> Iterator[Offer]:
        chosen = self.root.resolution
        for wheel in chosen.recipe.check.wheels if chosen.recipe.check else ():
            known = named(wheel.file)
            fits = wheel.arch in (None, chosen.target.arch) and serves(wheel, chosen.python)
            step = self._check_step(wheel)
            if known and known[0] == name and fits and step:
                place = wheel.places[0].uri
                yield Offer(name=name, version=known[1], origin="check", file=wheel.file, step=step, place=place)

    def _check_step(self, wheel: CheckWheel) -> Step | None:
        """What brings a wheel of the check; None for a source archive of which it makes no wheel."""
        if wheel.file.endswith(".whl"):
            return fetch_step(wheel)
        return self.root.proof.inputs.get(f"{CHECK_WHEEL}{wheel.file}")

    def _index(self, name: NormalizedName) -> list[Offer]:
        return index_offers(name, self._page(name), self.machine)

    def _page(self, name: str) -> Sequence[IndexFile]:
        if name not in self._pages:
            self._pages[name] = () if self.offline else self.listed(name)
        return self._pages[name]

    def why_none(self, name: str) -> str:
        """What is known of a project that has no wheel that serves."""
        plain = canonicalize_name(name)
        told = list(self._refused.get(name, ()))
        archives = source_archives(plain, self._page(plain), self.machine)
        if self.offline:
            told.append("the index was not asked, since the build is offline")
        elif archives:
            told.append(f"the index has a source archive, {archives[max(archives)]}: a recipe could build it")
        elif not self._page(plain):
            told.append("no index that pip uses here lists it")
        return "; ".join(told)

    # --- bringing it

    def requires(self, offer: Offer) -> Sequence[str]:
        return requires_dist(self.bring(offer).wheel)

    def bring(self, offer: Offer) -> Brought:
        """The wheel of an offer, built or fetched. :class:`Refused` where its proof fails."""
        key = _key(offer)
        if key not in self._brought:
            self._brought[key] = self._get(offer)
        return self._brought[key]

    def _get(self, offer: Offer) -> Brought:
        if offer.origin == "wheel":
            return Brought(wheel=self.wheel, judged="proved", planned=self.root, proof=self.proof)
        if offer.origin == "recipe":
            return self._built(offer)
        step = offer.step or fetch_step(
            Source(file=offer.file, sha256=offer.sha256, places=(Place(uri=f"pypi:{offer.name}=={offer.version}"),))
        )
        wheel = next(self.make([step])[step.key].path.glob("*.whl"))
        if wheel.name.endswith("-none-any.whl"):
            return Brought(wheel=wheel, judged="pure")
        self._read(offer, wheel)
        return Brought(wheel=wheel, judged="read")

    def _built(self, offer: Offer) -> Brought:
        asked = self.request
        wanted = Request(
            recipe=offer.recipe,
            target=asked.target,
            version=str(offer.release.version) if offer.release else None,
            python=self.root.resolution.python,
            cpu=asked.cpu,
            features={name: on for name, on in asked.features.items() if name == AVX},
            builder_from=asked.builder_from,
        )
        planned = plan(resolve(wanted, self.catalog), self.catalog, rules=self.rules)
        made = self.make([planned.proof, planned.wheel])
        proof = made[planned.proof.key].path / "proof.json"
        self._judge(offer, Proof.read(proof))
        wheel = next(made[planned.wheel.key].path.glob("*.whl"))
        return Brought(wheel=wheel, judged="proved", planned=planned, proof=proof)

    def _read(self, offer: Offer, wheel: Path) -> None:
        """Judges a compiled wheel that others built, by every rule that needs no check."""
        chosen = self.root.resolution
        local = LocalSource(path=str(wheel), sha256=sha256_file(wheel), folder=False)
        step = verification(local, self.catalog, chosen.target, chosen.system, chosen.cpu, None, rules=self.rules)
        self._judge(offer, Proof.read(self.make([step])[step.key].path / "proof.json"))

    def _judge(self, offer: Offer, proof: Proof) -> None:
        if proof.passed:
            return
        failures = "; ".join(finding.message for finding in proof.findings if finding.severity == "fail")
        self._refused.setdefault(offer.name, []).append(f"{proof.file} does not pass its proof ({failures})")
        self._unfit.add(_key(offer))
        raise Refused(proof.file)


def _key(offer: Offer) -> tuple[str, str, str]:
    return str(offer.name), str(offer.version), offer.origin


def packages_of(recipe: Recipe, sysroot: str) -> tuple[str, ...]:
    """The packages of a distribution whose libraries a recipe's wheel loads."""
    return recipe.runtime.get(sysroot, ())


def requires_dist(wheel: Path) -> tuple[str, ...]:
    """The ``Requires-Dist`` lines of a wheel. ``InputError`` for a file that is none."""
    try:
        with zipfile.ZipFile(wheel) as bundle:
            name = next(
                name for name in bundle.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1
            )
            headers = BytesParser(policy=compat32).parsebytes(bundle.read(name), headersonly=True)
    except (zipfile.BadZipFile, StopIteration, OSError) as error:
        raise InputError("this is no wheel: it has no METADATA", where=str(wheel), why=str(error)) from error
    return tuple(" ".join(str(line).split()) for line in headers.get_all("Requires-Dist") or ())
