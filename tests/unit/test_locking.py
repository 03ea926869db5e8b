"""Which locks `sysroot lock` renews: each has a name of its own, also those of CUDA's parts."""

from __future__ import annotations

import re

from crosswheel.cli.locking import lock_steps
from crosswheel.spec.catalog import Catalog


def test_every_lock_has_a_name_and_no_two_share_one(catalog: Catalog) -> None:
    """They are files below ``sysroots/locks``."""
    keys: dict[str, set[str]] = {}
    for target in ("rpi4", "sbsa-debian", "jetson-tx1"):
        for step in lock_steps(catalog, target):
            keys.setdefault(step.lock, set()).add(step.key)
    assert {"debian-12-arm64-development", "debian-trixie-nvidia-cuda-toolkit-amd64"} <= keys.keys()
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", name) for name in keys)
    assert all(len(of) == 1 for of in keys.values())
