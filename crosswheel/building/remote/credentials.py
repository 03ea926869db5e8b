"""Credentials by a helper, so that no secret stands in a settings file.

The protocol is the one of Bazel's ``--credential_helper``: the command is called with ``get``, reads ``{"uri": …}`` on
stdin, and answers ``{"headers": {name: [values]}, "expires": time}`` on stdout
(https://github.com/EngFlow/credential-helper-spec).
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from datetime import datetime

HELPER_SECONDS = 30.0
"""A helper that takes longer has failed."""

DEFAULT_SECONDS = 1800.0
"""For so long an answer without ``expires`` is used, as by Bazel (``--credential_helper_cache_duration``)."""

_EARLY_SECONDS = 30.0


class HelperError(Exception):
    """The helper gave no credentials; the message is a sentence."""


class Credentials:
    """Headers for requests to ``uri``, asked for when they are first needed and when they have expired. Of no helper,
    none."""

    def __init__(self, helper: Sequence[str], uri: str) -> None:
        self._helper = tuple(helper)
        self._uri = uri
        self._lock = threading.Lock()
        self._headers: tuple[tuple[str, str], ...] = ()
        self._until = 0.0

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Names and values. ``HelperError`` where the helper fails."""
        if not self._helper:
            return ()
        with self._lock:
            if time.time() >= self._until:
                answer = self._ask()
                self._headers = _headers(answer)
                self._until = _until(answer)
            return self._headers

    def _ask(self) -> object:
        name = self._helper[0]
        try:
            done = subprocess.run(
                (*self._helper, "get"),
                input=json.dumps({"uri": self._uri}),
                capture_output=True,
                text=True,
                timeout=HELPER_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HelperError(f"the credential helper {name} did not answer within {HELPER_SECONDS:.0f} s") from None
        except OSError as error:
            raise HelperError(f"the credential helper {name} cannot be run: {error.strerror}") from error
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[-1:] or ["and said nothing"]
            raise HelperError(f"the credential helper {name} ended with {done.returncode}: {said[0][:300]}")
        try:
            return json.loads(done.stdout)
        except ValueError:
            # What it printed may be a secret, and is not shown.
            raise HelperError(f"the credential helper {name} did not answer with JSON") from None


def _headers(answer: object) -> tuple[tuple[str, str], ...]:
    headers = answer.get("headers", {}) if isinstance(answer, dict) else None
    if not isinstance(headers, dict):
        raise HelperError("the credential helper's answer has no `headers`")
    found = []
    for name, values in headers.items():
        texts = values if isinstance(values, list) else None
        if texts is None or not all(isinstance(value, str) and value.isprintable() for value in texts):
            raise HelperError("in the credential helper's answer, `headers` are not lists of texts")
        found += [(str(name), value) for value in texts]
    return tuple(found)


def _until(answer: object) -> float:
    expires = answer.get("expires") if isinstance(answer, dict) else None
    if expires is None:
        return time.time() + DEFAULT_SECONDS
    try:
        moment = datetime.fromisoformat(str(expires))
    except ValueError:
        raise HelperError(f"the credential helper says `expires` {expires!r}, which is no time (RFC 3339)") from None
    return moment.timestamp() - _EARLY_SECONDS
