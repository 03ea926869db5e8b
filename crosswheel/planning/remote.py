"""What a step that runs Bazel says for those who have a remote cache: in no key, for it must not change a result."""

from __future__ import annotations

from dataclasses import dataclass

from crosswheel.spec.targets import BazelRemote


@dataclass(frozen=True, kw_only=True)
class RemoteUse:
    """``bazel`` is the version, ``flags`` are those that it knows. ``tools`` is a digest of whatever an action depends
    on and Bazel does not know of: results of other tools are none of this step's."""

    bazel: str
    flags: BazelRemote
    tools: str
