"""Lays out what a release's own build files would download, as Bazel's repository cache has it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from crosswheel.building.job import Job
from crosswheel.planning.steps import FetchStep, LocalStep, RepositoryCacheStep


def run_repository_cache(step: RepositoryCacheStep, inputs: Mapping[str, Path], job: Job) -> None:
    """Writes ``content_addressable/sha256/<sha256>/file`` for each input (the layout of Bazel's ``RepositoryCache``
    since 0.4). The steps that brought the files have checked them."""
    for role, needed in step.inputs.items():
        assert isinstance(needed, FetchStep | LocalStep), "externals are files"
        place = job.out / "content_addressable" / "sha256" / needed.sha256 / "file"
        if place.is_file():
            continue  # two externals of the same bytes
        place.parent.mkdir(parents=True)
        shutil.copyfile(inputs[role] / needed.file, place)
