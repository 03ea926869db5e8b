"""TensorFlow's releases as data: every one plans, each fact has its source, and what cannot work is refused at once."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import CommandLine
from packaging.specifiers import SpecifierSet

from crosswheel.errors import InputError
from crosswheel.planning.fitting import fitting, misfit, unknown_externals
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, Resolution, resolve
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.releases import Release

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
TENSORFLOW = Catalog(ROOT).versions("tensorflow")
MINORS = [*(f"1.{minor}" for minor in range(16)), *(f"2.{minor}" for minor in range(21))]


def release(catalog: Catalog, version: str) -> Release:
    return catalog.release("tensorflow", version)


def places(catalog: Catalog, version: str) -> Iterator[tuple[str, str]]:
    """The targets, with their Pythons, that a release fits."""
    for name in catalog.target_names:
        for system in catalog.target(name).systems:
            if misfit(release(catalog, version), system, catalog) is None:
                yield name, system.python


def refusal(catalog: Catalog, **wishes: object) -> str:
    with pytest.raises(InputError) as caught:
        resolve(Request(recipe="tf", **wishes), catalog)  # type: ignore[arg-type]
    return str(caught.value)


def resolved(catalog: Catalog, **wishes: object) -> Resolution:
    return resolve(Request(recipe="tf", **wishes), catalog)  # type: ignore[arg-type]


# --- what there is


def test_every_minor_version_is_there() -> None:
    assert {".".join(version.split(".")[:2]) for version in TENSORFLOW} >= set(MINORS)


def test_the_versions_that_are_asked_for_are_there() -> None:
    wanted = {"1.0.1", "1.1.0", "1.2.0", "1.2.1", "1.3.0", "1.4.1", "1.5.0", "1.12.0", "1.13.2", "1.15.5", "2.20.0"}
    assert wanted <= set(TENSORFLOW)


@pytest.mark.parametrize("version", TENSORFLOW)
def test_each_release_says_how_sure_its_facts_are(catalog: Catalog, version: str) -> None:
    found = release(catalog, version)
    assert {"bazel", "needs", "python"} <= set(found.facts)
    assert found.needs.numpy and found.needs.cuda and found.needs.cudnn and found.needs.compiler
    assert found.source.places[0].uri == f"https://github.com/tensorflow/tensorflow/archive/v{version}.tar.gz"
    assert found.bazel and set(found.bazel.outputs) == {"wheel", "libc", "tools"}
    assert found.bazel.configure and "TF_NEED_CUDA" in found.bazel.configure.answers


@pytest.mark.parametrize("version", TENSORFLOW)
def test_each_release_plans_where_it_fits(catalog: Catalog, version: str) -> None:
    for target, python in list(places(catalog, version))[:1]:
        resolution = resolved(catalog, version=version, target=target, python=python)
        planned = plan(resolution, catalog, rules={})
        assert resolution.bazel
        assert f"fetch Bazel {resolution.bazel.version}" in [step.name for step in planned.steps]


def test_the_two_releases_of_which_most_is_asked_fit_an_old_python(catalog: Catalog) -> None:
    assert ("nanopi-m4", "2.7") in set(places(catalog, "1.5.0"))
    assert ("x86_64", "2.7") in set(places(catalog, "1.15.5"))


# --- eras


def test_a_release_says_only_what_differs_from_its_era(catalog: Catalog) -> None:
    old, new = release(catalog, "1.13.2"), release(catalog, "1.15.5")
    assert old.era == new.era == "1.13-2.0"
    assert old.bazel and new.bazel
    assert old.bazel.flags == new.bazel.flags != ()
    assert old.bazel.versions != new.bazel.versions
    text = (ROOT / "recipes/tensorflow/1.13.2.toml").read_text()
    assert "flags" not in text and "outputs" not in text


def test_what_a_release_says_wins_over_its_era(data: Path) -> None:
    path = data / "recipes/tensorflow/1.13.2.toml"
    path.write_text(path.read_text().replace("[bazel]\n", '[bazel]\nflags = ["--mine"]\n'))
    build = Catalog(data).release("tensorflow", "1.13.2").bazel
    assert build and build.flags == ("--mine",)
    assert build.outputs["libc"].targets == ("//tensorflow/tools/lib_package:libtensorflow",)


# --- the default


def test_the_newest_release_that_fits_and_can_be_built_is_the_default(catalog: Catalog) -> None:
    for name in catalog.target_names:
        found = resolved(catalog, target=name)
        assert catalog.knows_externals("tensorflow", found.release)
        newer = TENSORFLOW[: TENSORFLOW.index(found.release.version)]
        for version in newer:
            fits = name in dict(places(catalog, version))
            assert not (fits and catalog.knows_externals("tensorflow", catalog.release("tensorflow", version)))
    old = resolved(catalog, target="nanopi-m4", python="2.7")
    assert old.release.version == "2.1.4"  # the last one for Python 2.7


def test_numpy_is_the_distributions_or_our_own(catalog: Catalog) -> None:
    theirs = resolved(catalog, version="2.12.1", target="rpi4")
    ours = resolved(catalog, version="1.15.5", target="nanopi-m4", python="2.7")
    assert theirs.numpy is None  # Debian 12 has 1.24.2
    assert ours.numpy and ours.numpy.release.version == "1.16.6"  # Debian 11 has none for Python 2.7


# --- what cannot work


def test_a_python_that_a_release_does_not_serve(catalog: Catalog) -> None:
    told = refusal(catalog, version="1.5.0", target="rpi4")
    assert "1.5.0 serves CPython" in told and "asked for is 3.11 on rpi4" in told
    assert "nearest that fits rpi4: version 2.12.1 with CPython 3.11" in told
    assert "nanopi-m4 with CPython 3.9, x86_64 with CPython 3.9" in told


def test_a_python_without_numpy(data: Path) -> None:
    (data / "recipes/numpy/1.16.6.toml").unlink()
    told = refusal(Catalog(data), version="1.5.0", target="nanopi-m4", python="2.7")
    assert "1.5.0 takes NumPy >=1.12.1,<1.20" in told
    assert "for CPython 2.7, debian-11 has no NumPy, and no release of the recipe numpy is one" in told
    assert "nearest that fits nanopi-m4: version " in told


def test_a_numpy_of_another_version(catalog: Catalog) -> None:
    told = refusal(catalog, version="2.6.3", target="x86_64", python="2.7")
    assert "2.6.3 serves CPython" in told
    told = refusal(catalog, version="1.10.1", target="nanopi-m4")
    assert "1.10.1 takes NumPy >=1.13.3,<=1.14.5 (tools/pip_package/setup.py at the release's commit" in told


@pytest.mark.parametrize(
    ("version", "bazel", "range_", "source"),
    [
        ("1.13.2", "0.25.1", ">=0.19.0,<=0.21.0", "grade A: configure.py at the release's commit 04256c89d8"),
        ("1.15.5", "0.29.0", ">=0.24.1,<=0.26.1", "grade A: configure.py at the release's commit 3db52be7be"),
        ("2.6.5", "5.3.0", ">=3.7.2,<=3.99.0", "grade B: configure.py at"),
        ("1.15.5", "newest", ">=0.24.1,<=0.26.1", "grade A"),
    ],
)
def test_a_bazel_outside_the_enforced_range(
    catalog: Catalog, version: str, bazel: str, range_: str, source: str
) -> None:
    target, python = next(iter(places(catalog, version)))
    told = refusal(catalog, version=version, target=target, python=python, tools={"bazel": bazel})
    assert f"not {bazel}" in told
    assert f"its own code accepts Bazel {range_} alone" in told and source in told


def test_a_bazel_inside_the_range_that_is_not_tried(catalog: Catalog) -> None:
    told = refusal(catalog, version="1.5.0", target="nanopi-m4", tools={"bazel": "0.20.0"})
    assert "is built by Bazel 0.17.2, not 0.20.0" in told
    assert "accepts" not in told


def test_mkl_is_for_x86_64(catalog: Catalog) -> None:
    told = refusal(catalog, version="1.15.5", target="nanopi-m4", features={"mkl": True})
    assert "the feature 'mkl' is for x86_64, and nanopi-m4 is aarch64" in told
    assert "mkl" in resolved(catalog, version="1.15.5", target="x86_64", features={"mkl": True}).features


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        ("1.4.1", {"--define=using_mkl=true"}),
        ("1.5.0", {"--define=using_mkl=true"}),
        ("1.11.0", {"--define=using_mkl=true"}),
        ("1.12.3", {"--define=build_with_mkl=true", "--define=enable_mkl=true"}),
        ("1.15.5", {"--config=mkl"}),
        ("2.20.0", {"--config=mkl"}),
    ],
)
def test_mkl_reaches_bazel_as_upstreams_own_rc_has_it(catalog: Catalog, version: str, flags: set[str]) -> None:
    found = release(catalog, version)
    assert found.bazel is not None
    assert set(found.bazel.features["mkl"]) == flags
    assert found.facts["mkl"].source


def test_every_release_that_has_mkl_has_its_flags(catalog: Catalog) -> None:
    has = catalog.recipe("tensorflow").features["mkl"].versions
    assert has is not None
    for version in TENSORFLOW:
        found = release(catalog, version)
        assert found.bazel is not None
        assert ("mkl" in found.bazel.features) == SpecifierSet(has).contains(version), version
    assert "1.3.0 has no feature 'mkl'" in refusal(catalog, version="1.3.0", target="x86_64", features={"mkl": True})


def test_a_feature_that_a_release_does_not_have(catalog: Catalog) -> None:
    told = refusal(catalog, version="1.15.5", target="nanopi-m4", features={"jemalloc": True})
    assert "tensorflow 1.15.5 has no feature 'jemalloc'; releases <1.12 have it" in told
    assert "jemalloc" not in resolved(catalog, version="1.15.5", target="nanopi-m4").features
    assert "jemalloc" in resolved(catalog, version="1.11.0", target="nanopi-m4").features


def test_a_release_of_unknown_externals_is_planned_and_not_built(catalog: Catalog) -> None:
    target = catalog.target("rk3588")
    error = unknown_externals("tensorflow", release(catalog, "2.20.0"), target, catalog)
    assert error is not None and error.exit_code == 2
    told = str(error)
    assert "tensorflow 2.20.0 can be planned, but not built" in told
    assert "2.14.0 with CPython 3.11 is the newest for rk3588" in told
    assert "./x recipe externals tensorflow --version 2.20.0 --source TREE" in told
    for recipe, version in (("tensorflow", "1.5.0"), ("dm-tree", "0.1.5"), ("wrapt", "1.16.0")):
        assert unknown_externals(recipe, catalog.release(recipe, version), target, catalog) is None


def test_a_refusal_takes_less_than_a_second() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = CommandLine()("plan", "tf", "--version", "1.5.0", "--target", "rpi4", seconds=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2 and "nearest that fits rpi4" in done.stderr
    # The processor's time, not the clock's: other tests may run beside this one.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_nothing_fits_where_no_system_is(catalog: Catalog) -> None:
    assert fitting(catalog.releases("tensorflow"), [], catalog) is None
