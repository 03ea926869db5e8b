"""Which releases of TensorFlow a system's CUDA and cuDNN serve: by what upstream's own code takes, not by what it
tested."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from crosswheel.errors import DataError, InputError
from crosswheel.planning.fitting import OWN_CUDA, fitting, misfit, nearest, unknown_externals
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, Resolution, resolve
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.targets import System

pytestmark = pytest.mark.unit

GPU = {"cuda": True}
TENSORFLOW = Catalog(Path(__file__).resolve().parents[2]).versions("tensorflow")


def resolved(catalog: Catalog, target: str, **wishes: object) -> Resolution:
    return resolve(Request(recipe="tf", target=target, features=GPU, **wishes), catalog)  # type: ignore[arg-type]


def refusal(catalog: Catalog, target: str, **wishes: object) -> str:
    with pytest.raises(InputError) as caught:
        resolved(catalog, target, **wishes)
    return str(caught.value)


def system_of(catalog: Catalog, target: str, name: str) -> System:
    (found,) = (system for system in catalog.target(target).systems if system.name == name)
    return found


# --- the data


@pytest.mark.parametrize("version", TENSORFLOW)
def test_what_upstream_tested_is_inside_of_what_its_code_takes(catalog: Catalog, version: str) -> None:
    release = catalog.release("tensorflow", version)
    assert release.accepts.cudnn, "every build of it for a GPU wants cuDNN"
    assert release.needs.cudnn and release.needs.cudnn in SpecifierSet(release.accepts.cudnn)
    assert release.needs.cuda and release.needs.cuda in SpecifierSet(release.accepts.cuda or "")


def test_a_range_says_how_sure_it_is(data: Path) -> None:
    path = data / "recipes/cuda-check/1.0.0.toml"
    path.write_text(path.read_text() + '\n[accepts]\ncuda = ">=9"\n')
    with pytest.raises(DataError, match=r"a range of cuda refuses builds: say in \[facts.cuda\] how sure it is"):
        Catalog(data).release("cuda-check", "1.0.0")


# --- the default


@pytest.mark.parametrize(
    ("target", "version", "system"),
    [
        ("jetson-tx1", "1.13.2", "jetpack-3.1"),  # later ones want CUDA 9
        ("jetson-tx2", "2.3.4", "jetpack-4.6"),
        ("jetson-nano", "2.3.4", "jetpack-4.6"),  # the first with cuDNN 8; later ones want NumPy 1.19
        ("jetson-xavier", "2.7.1", "jetpack-5.1"),
        ("jetson-orin", "2.14.0", "jetpack-6.0"),  # cuDNN 9 is for later ones, whose externals are not known
    ],
)
def test_the_newest_that_takes_what_a_board_has(catalog: Catalog, target: str, version: str, system: str) -> None:
    found = resolved(catalog, target)
    assert (found.release.version, found.system.name) == (version, system)


def test_a_tool_that_is_asked_for_counts_instead_of_the_systems(catalog: Catalog) -> None:
    assert "debian-12 has no cuDNN" in refusal(catalog, "sbsa-debian", version="2.14.0", python="3.11")
    found = resolved(catalog, "sbsa-debian", version="2.14.0", python="3.11", tools={"cudnn": "8.6"})
    assert found.cuda and found.cuda.cudnn and found.cuda.cudnn.version == "8.6"


def test_without_a_gpu_nothing_is_refused_for_its_cuda(catalog: Catalog) -> None:
    board, release = system_of(catalog, "jetson-nano", "jetpack-4.6"), catalog.release("tensorflow", "1.15.5")
    assert misfit(release, board, catalog) is None
    assert misfit(release, board, catalog, OWN_CUDA)
    assert resolve(Request(recipe="tf", version="1.15.5", target="jetson-nano"), catalog).warnings == ()


# --- what people have built on such boards


@pytest.mark.parametrize(
    ("version", "system"),
    [
        ("1.1.0", "jetpack-3.0"),
        ("1.2.0", "jetpack-3.0"),
        ("1.2.1", "jetpack-3.0"),
        ("1.3.0", "jetpack-3.0"),
        ("1.3.0", "jetpack-3.1"),
        ("1.4.0", "jetpack-3.1"),
        ("1.5.0", "jetpack-3.1"),
    ],
)
def test_what_was_built_on_a_tx1_is_planned(catalog: Catalog, version: str, system: str) -> None:
    found = resolved(catalog, "jetson-tx1", version=version, system=system)
    assert f"compile tensorflow {version} for jetson-tx1" in [
        step.name for step in plan(found, catalog, rules={}).steps
    ]


# --- what cannot work


@pytest.mark.parametrize(
    ("version", "target", "system", "told"),
    [
        (
            "1.4.1",
            "jetson-tx1",
            "jetpack-3.0",
            "1.4.1 takes cuDNN >=6,<8, and jetpack-3.0 has cuDNN 5.1 (cuDNN, grade A",
        ),
        (
            "1.14.0",
            "jetson-tx1",
            "jetpack-3.1",
            "1.14.0 takes CUDA >=9,<10.2, and jetpack-3.1 has CUDA 8.0 (CUDA, grade",
        ),
        ("2.2.3", "jetson-nano", "jetpack-4.6", "2.2.3 takes cuDNN >=6,<8, and jetpack-4.6 has cuDNN 8.2"),
        ("2.11.1", "jetson-orin", "jetpack-6.0", "2.11.1 takes CUDA >=11,<12, and jetpack-6.0 has CUDA 12.2"),
        ("2.14.1", "jetson-orin", "jetpack-6.1", "2.14.1 takes cuDNN >=7.3,<9, and jetpack-6.1 has cuDNN 9.3"),
        (
            "1.15.5",
            "jetson-nano",
            "jetpack-4.6",
            "1.15.5 takes CUDA >=9,<10.2 and cuDNN >=6,<8, and jetpack-4.6 has CUDA 10.2 and cuDNN 8.2",
        ),
    ],
)
def test_what_its_code_does_not_take(catalog: Catalog, version: str, target: str, system: str, told: str) -> None:
    text = refusal(catalog, target, version=version, system=system)
    assert told in text
    assert f"fits {target}: version " in text


def test_the_nearest_that_can(catalog: Catalog) -> None:
    text = refusal(catalog, "jetson-nano", version="1.15.5")
    assert "nearest that fits jetson-nano: version 2.3.0 with CPython 3.6 (jetpack-4.6)" in text
    assert "newest that fits jetson-nano: version 2.3.4 with CPython 3.6 (jetpack-4.6)" in text
    assert "targets that 1.15.5 fits" not in text, "none has a CUDA for it"
    assert "targets that 1.3.1 fits: jetson-tx1 with" in refusal(catalog, "jetson-nano", version="1.3.1")


def test_a_tool_that_the_code_does_not_take(catalog: Catalog) -> None:
    text = refusal(
        catalog, "sbsa-debian", version="2.14.0", python="3.11", tools={"cudnn": "9.6"}, capabilities=("9.9",)
    )
    assert "2.14.0 takes cuDNN >=7.3,<9, and asked for is cuDNN 9.6" in text
    assert "does not compile for compute capability 9.9" in text, "every reason at once"
    assert "cuDNN 9.6 is for CUDA >=12,<13, not 11.8" in text
    assert "nearest that fits sbsa-debian: version 2.20.0 with CPython 3.13 (debian-13)" in text


def test_a_version_that_there_is_not_is_told_once(catalog: Catalog) -> None:
    text = refusal(catalog, "jetson-nano", tools={"cudnn": "newest"})
    assert "there is no cuDNN 'newest' here" in text
    assert "takes cuDNN" not in text


def test_versions_that_do_not_go_together_offer_nothing(catalog: Catalog) -> None:
    """CUDA 13 has no target libraries for what a Jetson Nano is, whatever the release."""
    nano = catalog.target("jetson-nano")
    assert nearest("tensorflow", nano, "2.3.4", catalog, {"cuda": "13.0", "cudnn": "9.13"}) == []


def test_a_target_that_nothing_serves(data: Path) -> None:
    path = data / "toolchains/targets/jetson-nano.toml"
    path.write_text(path.read_text().replace(', cudnn = "8.2"', ""))
    text = refusal(Catalog(data), "jetson-nano", version="2.3.4")
    assert "jetpack-4.6 has no cuDNN" in text
    assert "no release of it fits a CPython and a CUDA that jetson-nano has" in text


def test_what_can_be_planned_only_offers_what_the_gpu_takes(catalog: Catalog) -> None:
    orin, release = catalog.target("jetson-orin"), catalog.release("tensorflow", "2.20.0")
    error = unknown_externals("tensorflow", release, orin, catalog, OWN_CUDA)
    assert "2.14.0 with CPython 3.10 (jetpack-6.0) is the newest for jetson-orin" in str(error)
    server = unknown_externals("tensorflow", release, catalog.target("sbsa-debian"), catalog, OWN_CUDA)
    assert "is the newest for" not in str(server), "none whose externals are known takes cuDNN 9"


# --- what nobody tested


@pytest.mark.parametrize(
    ("version", "target", "told"),
    [
        (
            "1.5.0",
            "jetson-tx1",
            "upstream tested 1.5.0 with CUDA 9.0 and cuDNN 7.0; this build is for CUDA 8.0 and cuDNN 6.0, "
            "which its code is not known to refuse",
        ),
        ("1.4.1", "jetson-tx1", ""),
        ("2.15.1", "jetson-orin", ""),
    ],
)
def test_a_system_that_upstream_did_not_test_is_a_warning(
    catalog: Catalog, version: str, target: str, told: str
) -> None:
    assert resolved(catalog, target, version=version).warnings == ((told,) if told else ())


def test_only_what_differs_from_what_was_tested_is_told(catalog: Catalog) -> None:
    found = resolved(catalog, "sbsa-debian", version="2.14.0", python="3.11", tools={"cudnn": "8.6"})
    (told,) = found.warnings
    assert told.startswith("upstream tested 2.14.0 with cuDNN 8.7; this build is for cuDNN 8.6")


def test_every_board_with_cudnn_has_a_release(catalog: Catalog) -> None:
    for name in catalog.target_names:
        for system in catalog.target(name).systems:
            if system.cuda and system.cuda.cudnn:
                assert fitting(catalog.releases("tensorflow"), [system], catalog, OWN_CUDA), f"{name} {system.name}"
