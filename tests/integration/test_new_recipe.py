"""`new recipe` on the real package index: the draft passes `check`, and what it drafts is built and proved as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import CommandLine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def test_a_small_package_is_drafted_built_and_proved(crosswheel: CommandLine, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    drafted = crosswheel("new", "recipe", "markupsafe", "--from", "pypi:MarkupSafe==2.1.5", "--data", own)
    assert drafted.returncode == 0, drafted.stderr
    release = (own / "recipes/markupsafe/2.1.5.toml").read_text()
    # As docs/add-a-package.md has it, where a person wrote it.
    assert "d283d37a890ba4c1ae73ffadf8046435c76e7bc2247bbb63c00bd1a709c6544b" in release
    assert 'backend = "pep517"' in release
    checked = crosswheel("check", "--data", own)
    assert checked.returncode == 0, checked.stdout
    words = ("build", "markupsafe", "--target", "rpi4", "--data", own, "--out", tmp_path / "dist")
    answer = crosswheel.json(*words)
    assert answer["proof"]["passed"] is True
    # The package, and the one module of it that is machine code.
    assert answer["proof"]["run"]["tests"] == 2
    assert Path(answer["wheel"]).name == "MarkupSafe-2.1.5-cp311-cp311-linux_aarch64.whl"


@pytest.mark.parametrize(
    ("project", "why"),
    [("six", "is pure Python"), ("rpds-py", "is built by Rust"), ("crosswheel-no-such-project", "no index")],
)
def test_what_cannot_be_drafted_is_told(crosswheel: CommandLine, tmp_path: Path, project: str, why: str) -> None:
    refused = crosswheel("new", "recipe", "new-one", "--from", f"pypi:{project}", "--data", tmp_path)
    assert refused.returncode == 2
    assert why in refused.stderr
    assert list(tmp_path.iterdir()) == []
