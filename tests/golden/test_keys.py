"""The keys of plans, and what planning renders, are pinned: a change of either must be seen in a review.

``CROSSWHEEL_GOLDEN=write ./x test tests/golden`` writes the files anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import FilesStep
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.golden

HERE = Path(__file__).parent
REQUESTS = {
    "dm-tree-0.1.5-rpi4": Request(recipe="dm-tree", version="0.1.5", target="rpi4"),
    "dm-tree-0.1.5-rpi4-bazel-2.1.0": Request(
        recipe="dm-tree", version="0.1.5", target="rpi4", tools={"bazel": "2.1.0"}
    ),
    "dm-tree-0.1.9-rk3588-3.13": Request(recipe="dm-tree", version="0.1.9", target="rk3588", python="3.13"),
    "ml-dtypes-0.5.4-x86_64-no-avx": Request(
        recipe="ml-dtypes", version="0.5.4", target="x86_64", features={"avx": False}
    ),
    "wrapt-1.16.0-nanopi-m4": Request(recipe="wrapt", version="1.16.0", target="nanopi-m4"),
}
RULES = {"rule": 1}


def planned(catalog: Catalog, name: str) -> Plan:
    return plan(resolve(REQUESTS[name], catalog), catalog, rules=RULES)


def agree(path: Path, text: str) -> None:
    """``text`` is what the golden file says; or becomes it, if that was asked for."""
    if os.environ.get("CROSSWHEEL_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"{path} is missing; CROSSWHEEL_GOLDEN=write makes it"
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REQUESTS)
def test_keys(catalog: Catalog, name: str) -> None:
    steps = planned(catalog, name).steps
    keys = [{"name": step.name, "key": step.key, "described": step.described()} for step in steps]
    for entry, step in zip(keys, steps, strict=True):
        if isinstance(step, FilesStep):  # their contents are pinned as files
            entry["described"] = {"kind": step.kind, "files": sorted(step.files)}
    agree(HERE / "keys" / f"{name}.json", json.dumps(keys, indent=1, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("name", REQUESTS)
def test_rendered_files(catalog: Catalog, name: str) -> None:
    run = planned(catalog, name).wheel.inputs["run"]
    rendered = [step for step in run.inputs.values() if isinstance(step, FilesStep)]
    text = ""
    for step in rendered:
        for path, file in sorted(step.files.items()):
            kind = "link" if file.link else "executable" if file.executable else "file"
            text += f"==== {step.name}: {path} ({kind})\n{file.text}"
            text += "" if file.text.endswith("\n") or not file.text else "\n"
    agree(HERE / "rendered" / f"{name}.txt", text)


def test_what_is_no_result_is_in_no_key(catalog: Catalog) -> None:
    """A place where a source can be had, or the name of a step, changes no key; a byte of a patch does."""
    from dataclasses import replace

    from crosswheel.planning.steps import FetchStep, PatchText, TreeStep

    fetch = next(step for step in planned(catalog, "wrapt-1.16.0-nanopi-m4").steps if isinstance(step, FetchStep))
    elsewhere = replace(fetch, name="other", places=())
    assert elsewhere.key == fetch.key
    assert replace(fetch, sha256="0" * 64).key != fetch.key
    tree = TreeStep(name="tree", inputs={"archive": fetch}, patches=(PatchText(file="a.patch", text="x"),))
    assert replace(tree, inputs={"archive": elsewhere}).key == tree.key
    assert replace(tree, patches=(PatchText(file="a.patch", text="y"),)).key != tree.key
