"""What docs/status.md says of patch series: on which of upstream's own bytes they were tried."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from crosswheel.spec.catalog import Catalog
from crosswheel.spec.checked import Checked, read_checked, series_digest

WIDTH = 120
"""Of a line of running text in a page."""

_KINDS = {"archive": "upstream's archive, sha256", "commit": "upstream's commit", "folder": "a folder, sha256"}


def checked_lines(catalog: Catalog) -> Iterator[str]:
    """A table for every recipe that keeps a ``checked.toml``, and the releases whose bytes were not tried."""
    for name in catalog.recipe_names:
        folder = catalog.layers.under("patches", name)
        kept = read_checked(folder)
        if not kept:
            continue
        yield f"## Patches of {name} on upstream's own bytes"
        yield ""
        yield "Each patch that serves the version was applied to these bytes, in every combination of its conditions."
        yield ""
        yield "| version | bytes | patches | combinations | verdict |"
        yield "|---|---|---|---|---|"
        for one in kept:
            now = series_digest(catalog.series(name), folder, one.version) == one.series
            yield _row(one, now)
        yield ""
        untried = [r.version for r in catalog.releases(name) if r.version not in {one.version for one in kept}]
        if untried:
            yield from wrap(f"Not tried, because these bytes could not be had: {', '.join(untried)}.", WIDTH)
            yield ""


def _row(one: Checked, now: bool) -> str:
    verdict = "all apply" if now else "out of date: the patches have changed since"
    return f"| {one.version} | {_KINDS[one.kind]} `{one.id[:12]}` | {one.patches} | {one.combinations} | {verdict} |"
