"""What ``toolchains/ci.toml`` may say: the engines that run a night on many machines, and the actions they call."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from crosswheel.errors import DataError
from crosswheel.spec.base import Model


class GitHub(Model):
    """Limits of GitHub's hosted runners: ``jobs`` of one matrix, ``minutes`` of a job, ``cache`` and ``page`` in GiB,
    ``retention`` of artefacts in days. ``packages`` are those that the ``runner`` lacks."""

    runner: str
    jobs: int = Field(gt=0)
    minutes: int = Field(gt=0)
    cache: float = Field(gt=0)
    page: float = Field(gt=0)
    retention: int = Field(gt=0)
    packages: tuple[str, ...] = ()
    source: Annotated[str, StringConstraints(min_length=10)]


class GitLab(Model):
    """``image`` is the job's, ``service`` has Docker's engine, ``jobs`` is the most that ``parallel`` takes."""

    image: str
    service: str
    jobs: int = Field(gt=0)
    packages: tuple[str, ...] = ()
    source: Annotated[str, StringConstraints(min_length=10)]


class Action(Model):
    """An action of GitHub's, by the commit of a version's tag."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$")]
    version: Annotated[str, StringConstraints(pattern=r"^v[0-9]+(\.[0-9]+)*$")]
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    source: Annotated[str, StringConstraints(min_length=10)]


class Ci(Model):
    """The whole file."""

    github: GitHub
    gitlab: GitLab
    action: tuple[Action, ...]

    def pinned(self, path: str) -> Action:
        """The action that a path such as ``actions/cache/restore`` is in. ``DataError`` where none is pinned."""
        name = "/".join(path.split("/")[:2])
        for action in self.action:
            if action.name == name:
                return action
        raise DataError(f"the action {name!r} is pinned to no commit", where="toolchains/ci.toml")
