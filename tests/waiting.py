"""What becomes true a moment later, because a process of its own does it."""

from __future__ import annotations

import time
from pathlib import Path


def emptied(folder: Path, seconds: float = 20) -> bool:
    """Whether a folder is empty, now or within so many seconds (what a store discards is removed beside the build)."""
    end = time.monotonic() + seconds
    while any(folder.iterdir()):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
