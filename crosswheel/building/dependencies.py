"""Which wheels serve all that a wheel requires, and what they require in turn: a resolution with backtracking.

resolvelib does the search, which is pip's own; what a marker or a tag means is asked of the target and not of the
machine that runs this, which pip cannot do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, ResolutionTooDeep, Resolver
from resolvelib.resolvers import Result
from resolvelib.structs import RequirementInformation

from crosswheel.errors import InputError
from crosswheel.planning.wheelhouse import Offer
from crosswheel.spec.requirements import Machine, key_of, wanted

_ROUNDS = 2000
"""How many choices a resolution may make; TensorFlow 2's needs some sixty."""


class Refused(Exception):
    """A wheel turned out not to fit when it was looked at; its shelf no longer offers it."""


class Shelf(Protocol):
    """Where wheels are had."""

    def offers(self, name: str) -> Iterable[Offer]:
        """The wheels of a project that the target takes, the best first. It need not look for the rest before they are
        asked for."""

    def requires(self, offer: Offer) -> Sequence[str]:
        """The ``Requires-Dist`` lines of a wheel, which is built or fetched for it. :class:`Refused` if it does not fit
        after all."""

    def why_none(self, name: str) -> str:
        """Why a project has no wheel that the target takes, or what else there is of it, as a sentence; or empty."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A requirement that nothing serves. ``asked`` are the requirements with who has them."""

    name: str
    asked: tuple[str, ...]
    why: str

    @property
    def sentence(self) -> str:
        """As a finding tells it."""
        return f"{' and '.join(self.asked)}: {self.why}"


@dataclass(frozen=True, kw_only=True)
class Served:
    """The wheels that serve everything that can be served, the asked one first, and what is missing. ``by`` says for
    each wheel's name which wheels require it, ``asked`` for each name, also of what is missing, by which requirements,
    each with the name of the wheel that has it."""

    offers: tuple[Offer, ...]
    missing: tuple[Missing, ...]
    by: Mapping[str, tuple[str, ...]]
    asked: Mapping[str, tuple[tuple[Requirement, str], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Candidate:
    """An offer under a key; with no offer, a gap."""

    key: str
    offer: Offer | None
    extras: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Provider(AbstractProvider[Requirement, _Candidate, str]):
    """What resolvelib asks. With ``gaps``, what cannot be served is left open instead of ending the search."""

    shelf: Shelf
    machine: Machine
    gaps: bool

    def identify(self, requirement_or_candidate: Requirement | _Candidate) -> str:
        item = requirement_or_candidate
        return item.key if isinstance(item, _Candidate) else key_of(item)

    def get_preference(
        self,
        identifier: str,
        resolutions: Mapping[str, _Candidate],
        candidates: Mapping[str, Iterator[_Candidate]],
        information: Mapping[str, Iterator[RequirementInformation[Requirement, _Candidate]]],
        backtrack_causes: Sequence[RequirementInformation[Requirement, _Candidate]],
    ) -> Any:
        told = list(information[identifier])
        pinned = any(spec.operator in ("==", "===") for item in told for spec in item.requirement.specifier)
        return (not pinned, -len(told), identifier)

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[Requirement]],
        incompatibilities: Mapping[str, Iterator[_Candidate]],
    ) -> Iterable[_Candidate] | Callable[[], Iterator[_Candidate]]:
        asked = list(requirements[identifier])
        refused = {(item.offer.origin, item.offer.version) for item in incompatibilities[identifier] if item.offer}
        name, _, extras = identifier.removesuffix("]").partition("[")

        def found() -> Iterator[_Candidate]:
            for offer in self.shelf.offers(name):
                if (offer.origin, offer.version) not in refused and all(_serves(offer, each) for each in asked):
                    yield _Candidate(identifier, offer, tuple(extras.split(",")) if extras else ())

        if self.gaps and next(found(), None) is None:
            return [_Candidate(identifier, None)]
        return found  # looked through as far as the search goes

    def is_satisfied_by(self, requirement: Requirement, candidate: _Candidate) -> bool:
        return candidate.offer is None or _serves(candidate.offer, requirement)

    def get_dependencies(self, candidate: _Candidate) -> Iterable[Requirement]:
        offer = candidate.offer
        if offer is None:
            return []
        where = offer.file or f"{offer.name} {offer.version}"
        needs = wanted(self.shelf.requires(offer), self.machine, candidate.extras, where)
        if candidate.extras:
            needs.append(Requirement(f"{offer.name}=={offer.version}"))
        return needs


def _serves(offer: Offer, requirement: Requirement) -> bool:
    if requirement.url:
        return False
    # As pip has it: a pre-release only where the range names one.
    prereleases = offer.origin != "index" or bool(requirement.specifier.prereleases)
    return requirement.specifier.contains(offer.version, prereleases=prereleases)


def serve(root: Offer, shelf: Shelf, machine: Machine, *, older: bool = True) -> Served:
    """All that ``root`` requires on the machine, recursively. What nothing serves is named, all of it at once. With
    ``older``, older versions of what requires it are tried first.

    Raises what the shelf raises (a build or a fetch that fails), and ``InputError`` where no end is found.
    """
    whole = _resolved(root, shelf, machine, gaps=False) if older else None
    result = whole or _resolved(root, shelf, machine, gaps=True)
    assert result is not None, "with gaps there always is a resolution"
    offers: dict[str, Offer] = {}
    by: dict[str, set[str]] = {}
    asked: dict[str, list[tuple[Requirement, str]]] = {}
    missing = []
    for key, item in sorted(result.mapping.items(), reverse=True):  # without extras last: that is the wheel itself
        informed = list(result.criteria[key].information)
        named = [(each.requirement, _told(each.parent)) for each in informed if each.parent]
        asked.setdefault(canonicalize_name(key.partition("[")[0]), []).extend(named)
        if item.offer is None:
            missing.append(_missing(key, informed, shelf))
            continue
        name = str(item.offer.name)
        offers[name] = item.offer
        parents = {_told(each.parent) for each in informed if each.parent}
        by.setdefault(name, set()).update(parents - {name})
    others = [offers[name] for name in sorted(offers) if name != root.name]
    return Served(
        offers=(root, *others),
        missing=tuple(sorted(missing, key=lambda item: item.name)),
        by={name: tuple(sorted(parents)) for name, parents in by.items()},
        asked={name: tuple(each for each in told if each[1] != name) for name, told in asked.items()},
    )


def _resolved(
    root: Offer, shelf: Shelf, machine: Machine, *, gaps: bool
) -> Result[Requirement, _Candidate, str] | None:
    """A resolution; None where there is none. It begins anew whenever a wheel turns out not to fit."""
    while True:
        provider = _Provider(shelf=shelf, machine=machine, gaps=gaps)
        resolver: Resolver[Requirement, _Candidate, str] = Resolver(provider, BaseReporter())
        try:
            return resolver.resolve([Requirement(f"{root.name}=={root.version}")], max_rounds=_ROUNDS)
        except ResolutionImpossible:
            return None
        except ResolutionTooDeep as error:
            raise InputError(
                f"what {root.name} {root.version} requires could not be resolved",
                why=f"{_ROUNDS} choices did not suffice",
                hint="build it without --with-dependencies, and pin what it requires",
            ) from error
        except Refused:
            continue


def _told(parent: _Candidate) -> str:
    return str(parent.offer.name) if parent.offer else parent.key


def _missing(key: str, informed: Sequence[RequirementInformation[Requirement, _Candidate]], shelf: Shelf) -> Missing:
    name = canonicalize_name(key.partition("[")[0])
    asked = tuple(sorted({f"{each.requirement} (of {_told(each.parent)})" for each in informed if each.parent}))
    offered: list[Version] = [offer.version for offer in shelf.offers(name)]
    if any(each.requirement.url for each in informed):
        why = "it names an address instead of a version, and a wheelhouse has no addresses"
    elif offered:
        shown = ", ".join(str(version) for version in offered[:4]) + (" and older" if len(offered) > 4 else "")
        why = f"no one version serves; there are {shown}"
    else:
        why = "there is no wheel that the target takes"
    more = shelf.why_none(name)
    return Missing(name=name, asked=asked, why=why + (f"; {more}" if more else ""))
