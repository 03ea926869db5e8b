"""What `list` shows: recipes, targets and sysroots; or the releases of one recipe, with what each needs and where it
was built."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from crosswheel.planning.fitting import for_gpu, misfit, systems_for
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.targets import System

_MINORS = ((2, 7), *((3, minor) for minor in range(31)))
"""The CPythons that a range is looked at with: 2.7, and 3.0 to one that is far from being released."""

_SHOWN = 4
"""How many versions of a recipe the table of all recipes names."""


class Listing:
    """The written data as `list` tells it. ``proofs`` is the folder of the kept proofs."""

    def __init__(self, catalog: Catalog, proofs: Path) -> None:
        self.catalog = catalog
        self._proofs = proofs

    @cached_property
    def _built(self) -> Mapping[tuple[str, str], list[str]]:
        """(distribution, version) → where a wheel of it passed its proof, as ``rpi4 3.11``; (recipe, version) → where a
        bundle did, as ``rpi4 protoc``."""
        found: dict[tuple[str, str], list[str]] = {}
        for path in sorted(self._proofs.glob("*.json")):
            proof = json.loads(path.read_text(encoding="utf-8"))
            name, version, what = _told(proof)
            where = f"{proof['policy']['target']} {what}"
            places = found.setdefault((name, version), [])
            if proof["passed"] and where not in places:
                places.append(where)
        return found

    def built(self, recipe: Recipe, release: Release) -> list[str]:
        """Where the release was built and passed: targets with the Python of a wheel, or the name of a bundle."""
        return sorted(self._built.get((canonicalize_name(recipe.distribution or recipe.name), release.version), []))

    def fits(self, recipe: Recipe, release: Release) -> list[str]:
        """The targets, with their Pythons, that the release goes with; for what is for GPUs alone, with CUDA."""
        found = []
        for name in self.catalog.target_names:
            target = self.catalog.target(name)
            gpu = for_gpu(recipe, target)
            systems = [s for s in systems_for(target, gpu) if not misfit(release, s, self.catalog, gpu)]
            pythons = list(dict.fromkeys(system.python for system in systems))
            if pythons:
                found.append(f"{name} {' '.join(pythons)}")
        return found

    # --- as JSON

    def everything(self) -> dict[str, object]:
        catalog = self.catalog
        return {
            "recipes": [self.recipe(catalog.recipe(name)) for name in catalog.recipe_names],
            "targets": [catalog.target(name).model_dump(mode="json") for name in catalog.target_names],
            "sysroots": [catalog.sysroot(name).model_dump(mode="json") for name in catalog.sysroot_names],
            "cpus": [cpu.model_dump(mode="json") for cpu in catalog.cpus.values()],
        }

    def recipe(self, recipe: Recipe) -> dict[str, object]:
        return {
            "name": recipe.name,
            "aliases": list(recipe.aliases),
            "summary": recipe.summary,
            "default": recipe.default,
            "features": {name: feature.summary for name, feature in recipe.features.items()},
            "releases": [self.release(recipe, release) for release in self.catalog.releases(recipe.name)],
        }

    def release(self, recipe: Recipe, release: Release) -> dict[str, object]:
        build = release.bazel
        ranges = {name: SpecifierSet(feature.versions or "") for name, feature in recipe.features.items()}
        return {
            "version": release.version,
            "era": release.era,
            "backend": release.backend,
            "python": release.python,
            "bazel": list(build.versions) if build else [],
            "bazel_enforced": build.enforced if build else None,
            "needs": release.needs.model_dump(mode="json"),
            "accepts": release.accepts.model_dump(mode="json"),
            "features": [name for name, range_ in ranges.items() if range_.contains(release.version)],
            "outputs": list(build.outputs) if build and build.outputs else ["wheel"],
            "facts": {name: fact.model_dump(mode="json") for name, fact in release.facts.items()},
            "targets": self.fits(recipe, release),
            "built": self.built(recipe, release),
            "tests": release.tests,
            "file": release.source.file if release.source else release.folder,
            "sha256": release.source.sha256 if release.source else None,
            "note": release.note,
        }

    # --- as tables: title, columns, rows

    def recipes_table(self) -> tuple[str, Sequence[str], list[Sequence[str]]]:
        rows: list[Sequence[str]] = []
        for name in self.catalog.recipe_names:
            recipe = self.catalog.recipe(name)
            versions = self.catalog.versions(name)
            shown = ", ".join(versions[:_SHOWN])
            more = f" and {len(versions) - _SHOWN} more, to {versions[-1]}" if len(versions) > _SHOWN else ""
            rows.append((name, ", ".join(recipe.aliases), shown + more, recipe.summary))
        return "Recipes", ("recipe", "also", "versions", "what it is"), rows

    def recipe_table(self, recipe: Recipe) -> tuple[str, Sequence[str], list[Sequence[str]]]:
        """The releases of a recipe. A column that no release has something for is left out."""
        cuda = ("CUDA, cuDNN", "its code takes")
        columns = ("version", "built by", "accepts", "CPython", "NumPy", *cuda, "targets", "tests", "state")
        rows = [self._row(recipe, release) for release in self.catalog.releases(recipe.name)]
        kept = [at for at in range(len(columns)) if any(row[at] for row in rows)]
        return (
            f"{recipe.name}: {recipe.summary}",
            [columns[at] for at in kept],
            [[row[at] for at in kept] for row in rows],
        )

    def _row(self, recipe: Recipe, release: Release) -> tuple[str, ...]:
        build, needs, accepts = release.bazel, release.needs, release.accepts
        built = self.built(recipe, release)
        takes = (("CUDA", accepts.cuda), ("cuDNN", accepts.cudnn))
        return (
            release.version,
            f"{release.backend} {', '.join(build.versions)}" if build else release.backend,
            build.enforced or "" if build else "",
            pythons(release.python),
            needs.numpy or "",
            ", ".join(version for version in (needs.cuda, needs.cudnn) if version),
            ", ".join(f"{word} {range_}" for word, range_ in takes if range_),
            ", ".join(self.fits(recipe, release)) or "none",
            str(release.tests or "-"),
            f"built: {', '.join(built)}" if built else "planned",
        )


def system_words(system: System) -> str:
    """A system of a target for a person: ``debian-12 (CPython 3.11)``, with its name where it has one, and its CUDA."""
    words = [f"CPython {system.python}"]
    if system.cuda:
        words.append(f"CUDA {system.cuda.toolkit}")
        words += [f"cuDNN {system.cuda.cudnn}"] if system.cuda.cudnn else []
    own = f"{system.name}: " if system.name and system.name != system.sysroot else ""
    return f"{own}{system.sysroot} ({', '.join(words)})"


def pythons(range_: str) -> str:
    """The CPythons of a range for a person: ``2.7, 3.3 to 3.6``."""
    served = SpecifierSet(range_)
    spans: list[list[tuple[int, int]]] = []
    for minor in _MINORS:
        if not served.contains(f"{minor[0]}.{minor[1]}.0"):
            continue
        if spans and spans[-1][-1] == (minor[0], minor[1] - 1):
            spans[-1].append(minor)
        else:
            spans.append([minor])
    return ", ".join(_span(span) for span in spans) or "none"


def _span(span: Sequence[tuple[int, int]]) -> str:
    first, last = (f"{major}.{minor}" for major, minor in (span[0], span[-1]))
    if span[-1] == _MINORS[-1]:
        return f"{first} and later"
    return first if first == last else f"{first} to {last}"


def _told(proof: Mapping[str, Any]) -> tuple[str, str, str]:
    """Of what a kept proof is: package, version, and the Python of a wheel or the output that a bundle is."""
    if "wheel" in proof:
        name, version, _, _ = parse_wheel_filename(proof["wheel"])
        return name, str(version), str(proof["policy"]["python"])
    build = proof["build"]
    return canonicalize_name(build["recipe"]), str(build["version"]), str(build["output"])
