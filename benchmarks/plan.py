"""Plans of everything: each recipe × release × target × Python × Bazel that resolves.

In one process, from the first line of TOML on: each round has a catalog of its own, so every file is read and checked
anew, every template compiled and rendered, every key computed; what plans share is made once, as for a matrix. What
does not go together is refused, and that costs time too. Besides, ``./x plan`` as a user meets it: one plan, with
Python's start.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator

from benchmarks.commands import X, ran
from benchmarks.rows import Row, below, spread
from crosswheel.building.job import Settings
from crosswheel.cli.settings import DATA
from crosswheel.errors import InputError
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.proving.prove import RULES
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.remembering import remembering

SECONDS = 1.0
"""The most that all plans may take together, wall clock."""


def measure(settings: Settings, runs: int = 5) -> list[Row]:
    """The median of ``runs`` rounds."""
    rounds: list[float] = []
    counts: set[tuple[int, int]] = set()
    for _ in range(runs):
        began = time.perf_counter()
        counts.add(plan_everything(remembering(Catalog(DATA))))
        rounds.append(time.perf_counter() - began)
    ((plans, refused),) = counts
    commands = [ran((X, "plan", "dm-tree", "--target", "rpi4"), settings.store).seconds for _ in range(runs)]
    note = f"{plans} plans, {refused} refused; {spread(rounds)}"
    return [
        below("plan: everything, in one process", statistics.median(rounds), "s", SECONDS, note=note),
        Row(name="plan: one of them", value=statistics.median(rounds) / plans * 1000, unit="ms"),
        Row(name="plan: ./x plan dm-tree", value=statistics.median(commands), unit="s", note=spread(commands)),
    ]


def requests(catalog: Catalog) -> Iterator[Request]:
    """Every request that names nothing which does not exist; not all of them go together."""
    for name, target in itertools.product(catalog.recipe_names, catalog.target_names):
        for release, system in itertools.product(catalog.releases(name), catalog.target(target).systems):
            for bazel in release.bazel.versions if release.bazel else ("",):
                yield Request(
                    recipe=name,
                    target=target,
                    version=release.version,
                    python=system.python,
                    tools={"bazel": bazel} if bazel else {},
                )


def plan_everything(catalog: Catalog) -> tuple[int, int]:
    """How many requests gave a plan with all its keys, and how many were refused."""
    plans = refused = 0
    for request in requests(catalog):
        try:
            resolution = resolve(request, catalog, advise=False)
        except InputError:
            refused += 1
            continue
        assert plan(resolution, catalog, rules=RULES).proof.key  # it is made of all other keys
        plans += 1
    return plans, refused
