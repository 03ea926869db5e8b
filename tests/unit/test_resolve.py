"""From a request to a resolution: every conflict is found, all at once, with what could be instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from crosswheel.errors import InputError
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.sources import LocalSource
from crosswheel.planning.steps import FetchStep, LocalStep, LockStep
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit


def refusal(catalog: Catalog, **wishes: object) -> str:
    with pytest.raises(InputError) as caught:
        resolve(Request(**wishes), catalog)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_an_alias_means_its_recipe(catalog: Catalog) -> None:
    resolution = resolve(Request(recipe="tree", target="rpi4"), catalog)
    assert resolution.recipe.name == "dm-tree"
    assert resolution.wheel_tag == "cp311-cp311-linux_aarch64"


def test_the_recipes_default_else_the_newest_that_fits(data: Path) -> None:
    asked = Request(recipe="dm-tree", target="rpi4")
    assert resolve(asked, Catalog(data)).release.version == "0.1.5"
    recipe = data / "recipes/dm-tree/recipe.toml"
    recipe.write_text(recipe.read_text().replace('default = "0.1.5"\n', ""))
    assert resolve(asked, Catalog(data)).release.version == "0.1.9"
    old = Request(recipe="dm-tree", target="nanopi-m4")  # CPython 3.9, which 0.1.9 does not serve
    assert resolve(old, Catalog(data)).release.version == "0.1.5"


def test_underscores_and_capitals_are_the_same_name(catalog: Catalog) -> None:
    assert resolve(Request(recipe="ML_Dtypes", target="rpi4"), catalog).recipe.name == "ml-dtypes"


def test_the_python_chooses_the_system(catalog: Catalog) -> None:
    resolution = resolve(Request(recipe="ml-dtypes", target="rk3588", python="3.13"), catalog)
    assert (resolution.sysroot.name, resolution.toolchain.gcc) == ("debian-13", "14")


@pytest.mark.parametrize(
    ("features", "cpu", "expected"),
    [
        ({}, None, "x86-64"),
        ({"avx": False}, None, "x86-64"),
        ({"avx": True}, None, "sandybridge"),
        ({"avx": False}, "x86-64-v2", "x86-64-v2"),
        ({}, "haswell", "haswell"),
    ],
)
def test_the_baseline_of_x86_64(catalog: Catalog, features: dict[str, bool], cpu: str | None, expected: str) -> None:
    request = Request(recipe="wrapt", target="x86_64", features=features, cpu=cpu)
    assert resolve(request, catalog).cpu.name == expected


def test_the_series_serves_only_the_pythons_that_need_it(catalog: Catalog) -> None:
    new = resolve(Request(recipe="dm-tree", version="0.1.5", target="rpi4"), catalog)
    old = resolve(Request(recipe="dm-tree", version="0.1.5", target="nanopi-m4"), catalog)
    assert [patch.file for patch in new.patches] == ["python-3.10-collections-abc.patch"]
    assert old.patches == ()


def test_unknown_names_offer_the_nearest(catalog: Catalog) -> None:
    assert "did you mean dm-tree" in refusal(catalog, recipe="dmtree", target="rpi4")
    assert "did you mean rpi4" in refusal(catalog, recipe="dm-tree", target="rpi-4")
    assert "did you mean 0.1.5" in refusal(catalog, recipe="dm-tree", target="rpi4", version="0.1.55")
    assert "no feature 'awx'; did you mean avx" in refusal(
        catalog, recipe="dm-tree", target="x86_64", features={"awx": True}
    )
    assert "x86-64-v2" in refusal(catalog, recipe="dm-tree", target="x86_64", cpu="x86-64-v22")


def test_all_reasons_are_told_at_once(catalog: Catalog) -> None:
    told = refusal(
        catalog,
        recipe="dm-tree",
        version="0.1.5",
        target="rpi4",
        python="3.5",
        cpu="haswell",
        features={"avx": False, "quantum": True},
        tools={"bazel": "9.9.9", "ninja": "1"},
    )
    for reason in (
        "rpi4 has CPython 3.11, not 3.5",
        "the cpu 'haswell' is x86_64, and rpi4 is aarch64",
        "no feature 'quantum'",
        "AVX is a feature of x86_64 processors",
        "built by Bazel 0.17.2, 2.1.0, not 9.9.9",
        "no tool 'ninja'",
        "nearest that fits rpi4: version",
    ):
        assert reason in told


def test_features_that_contradict_the_cpu(catalog: Catalog) -> None:
    told = refusal(catalog, recipe="wrapt", target="x86_64", cpu="haswell", features={"avx": False})
    assert "--no-avx contradicts --cpu haswell" in told


def test_a_tool_of_a_release_that_does_not_use_it(catalog: Catalog) -> None:
    told = refusal(catalog, recipe="wrapt", target="rpi4", tools={"bazel": "2.1.0"})
    assert "is not built by Bazel" in told


def test_a_source_of_the_users_replaces_the_fetch(catalog: Catalog) -> None:
    resolution = resolve(Request(recipe="wrapt", target="rpi4"), catalog)
    mine = LocalSource(path="/somewhere", sha256="1" * 64, folder=True)
    planned = plan(resolution, catalog, rules={}, sources={"wrapt": mine})
    assert [step.path for step in planned.steps if isinstance(step, LocalStep)] == ["/somewhere"]
    assert not [step for step in planned.steps if isinstance(step, FetchStep) and step.file.startswith("wrapt-")]
    assert planned.wheel.key != plan(resolution, catalog, rules={}).wheel.key
    with pytest.raises(InputError, match="no source 'numpy'"):
        plan(resolution, catalog, rules={}, sources={"numpy": mine})


def test_a_pinned_lock_is_in_the_key(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    resolution = resolve(Request(recipe="wrapt", target="rpi4"), catalog)
    free = plan(resolution, catalog, rules={})
    assert all(step.pinned is None for step in free.steps if isinstance(step, LockStep))
    pins = {"debian-12-arm64-development": "{}"}
    monkeypatch.setattr(catalog, "lock_text", pins.get)
    pinned = plan(resolution, catalog, rules={})
    assert pinned.wheel.key != free.wheel.key
    assert [step.pinned for step in pinned.steps if isinstance(step, LockStep)].count("{}") == 1
