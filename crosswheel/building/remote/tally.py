"""What came of a step's remote cache: how much was found, and whether the server lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from crosswheel.digest import Json

FAILURES = 3
"""After so many failures in a row the server counts as gone: a build must not wait for it at every action."""

AGAIN_SECONDS = 60.0
"""So long after that it is tried again."""


class Tally:
    """Counts of one endpoint; any thread may tell it. ``name`` is how the endpoint is called on the screen."""

    def __init__(self, name: str, log: Callable[[str], None]) -> None:
        self._name = name
        self._log = log
        self._lock = threading.Lock()
        self._failures = 0
        self._gone_until = 0.0
        self._refusals: set[str] = set()
        self.found = self.missed = self.sent = self.ran = 0
        self.fetched_bytes = self.sent_bytes = 0
        self.wrong = self.away = 0

    def add(self, **counts: int) -> None:
        """Adds to the counts."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    # --- does it live

    @property
    def gone(self) -> bool:
        """Whether the server is to be left alone now."""
        return time.monotonic() < self._gone_until

    def answered(self) -> None:
        """The server answered, whatever it said."""
        with self._lock:
            back = self._gone_until > 0
            self._failures, self._gone_until = 0, 0.0
        if back:
            self._log(f"crosswheel: the {self._name} answers again")

    def failed(self, why: str) -> None:
        """The server could not be reached, broke off, or was too slow."""
        with self._lock:
            self._failures += 1
            if self._failures < FAILURES or self.gone:
                return
            first = self._gone_until == 0
            self.away += first
            self._gone_until = time.monotonic() + AGAIN_SECONDS
        if first:
            self._log(f"crosswheel: the {self._name} does not answer ({why}); the build goes on without it")

    def refused(self, what: str) -> None:
        """The server answered with an error; each is told once."""
        with self._lock:
            if what in self._refusals:
                return
            self._refusals.add(what)
        self._log(f"crosswheel: the {self._name} {what}")

    def lied(self, what: str) -> None:
        """The server gave wrong bytes."""
        self.add(wrong=1)
        self._log(f"crosswheel: the {self._name} gave wrong bytes for {what}: they are not used, the action runs here")

    # --- what is told in the end

    def record(self) -> dict[str, Json]:
        """For the artefact's meta.json: actions by what became of them, bytes, and how often the server went away."""
        return {
            "found": self.found,
            "missed": self.missed,
            "sent": self.sent,
            "ran": self.ran,
            "fetched_bytes": self.fetched_bytes,
            "sent_bytes": self.sent_bytes,
            "wrong": self.wrong,
            "away": self.away,
        }

    def summary(self) -> str:
        """One line for the log."""
        asked = self.found + self.missed
        parts = [f"{self.found} of {asked} actions found, {_mib(self.fetched_bytes)} fetched"]
        if self.ran:
            parts.append(f"{self.ran} run there")
        if self.sent or self.sent_bytes:
            parts.append(f"{self.sent} results sent, {_mib(self.sent_bytes)}")
        if self.wrong:
            parts.append(f"wrong bytes {self.wrong} times")
        return f"crosswheel: {self._name}: {'; '.join(parts)}"


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
