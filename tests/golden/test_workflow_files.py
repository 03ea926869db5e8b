"""The workflows of GitHub and GitLab are pinned: a change of what runs every night must be seen in a review."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_keys import agree

from crosswheel.publishing.workflows import Nightly, github, gitlab
from crosswheel.spec.ci import Ci
from crosswheel.spec.toml import load

pytestmark = pytest.mark.golden

HERE = Path(__file__).parent / "workflows"
FACTS = load(Ci, Path(__file__).parents[2] / "toolchains" / "ci.toml")

CHECKOUT = Nightly(
    command="./x",
    setup=(),
    options="",
    matrix="",
    again="./x matrix render --for ENGINE",
    shards=("wrapt-1.16.0@rpi4+cp311", "dm-tree-0.1.5@rpi4+cp311, dm-tree-0.1.5@x86_64+cp311"),
    hour=1,
    minute=17,
)
INSTALLED = Nightly(
    command=".crosswheel/venv/bin/crosswheel",
    setup=("python3 -m venv .crosswheel/venv", ".crosswheel/venv/bin/pip install --quiet crosswheel==0.1.0"),
    options="--data .",
    matrix="--matrix 'my boards.toml'",
    again="crosswheel matrix render --for ENGINE --matrix 'my boards.toml' --data .",
    shards=("wrapt-1.16.0@my-board+cp311",),
    hour=23,
    minute=5,
)


@pytest.mark.parametrize(("name", "night"), [("checkout", CHECKOUT), ("installed", INSTALLED)])
def test_workflows(name: str, night: Nightly) -> None:
    agree(HERE / f"github-{name}.yml", github(night, FACTS))
    agree(HERE / f"gitlab-{name}.yml", gitlab(night, FACTS))
