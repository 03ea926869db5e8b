"""The places a source can come from, one module per scheme.

Each brings one file to a path that is given, or raises :class:`PlaceError` with the reason. None of them judges the
bytes: that is done once, for all of them, in :mod:`crosswheel.building.sources.fetch`.
"""

from __future__ import annotations

MAX_BYTES = 4 << 30
"""The largest file that is fetched, in bytes. The largest source known to a recipe (a CUDA wheel) has 0.9 GB."""


class PlaceError(Exception):
    """Why a place did not give the file: one or a few lines for a person, without the place's name."""
