"""TensorFlow's plan: externals in Bazel's repository cache, answers for configure, NumPy where there is none."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from crosswheel.building.job import Job, Settings
from crosswheel.building.sources.externals import run_repository_cache
from crosswheel.errors import DataError, InputError
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, abi_flags, resolve
from crosswheel.planning.sources import LocalSource, externals_of
from crosswheel.planning.steps import FetchStep, FilesStep, RepositoryCacheStep, RunStep
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

ASKED = Request(recipe="tf", version="1.5.0", target="nanopi-m4", python="2.7")


def planned(catalog: Catalog, asked: Request = ASKED, **more: Mapping[str, LocalSource]) -> Plan:
    return plan(resolve(asked, catalog), catalog, rules={}, sources=more.get("sources"))


def compile_step(found: Plan) -> RunStep:
    run = found.wheel.inputs["run"]
    assert isinstance(run, RunStep)
    return run


def rendered(run: RunStep, role: str) -> Mapping[str, str]:
    step = run.inputs[role]
    assert isinstance(step, FilesStep)
    return {path: file.text for path, file in step.files.items()}


@pytest.mark.parametrize(
    ("python", "flags"), [("2.7", "mu"), ("3.5", "m"), ("3.7", "m"), ("3.8", ""), ("3.11", ""), ("3.13", "")]
)
def test_the_abi_tag_has_the_flags_of_its_python(python: str, flags: str) -> None:
    assert abi_flags(python) == flags


def test_the_wheel_of_python_2(catalog: Catalog) -> None:
    assert planned(catalog).wheel.tag == "cp27-cp27mu-linux_aarch64"


# --- externals


def test_the_externals_lie_in_the_repository_cache_and_swig_is_a_folder(catalog: Catalog) -> None:
    run = compile_step(planned(catalog))
    cache = run.inputs["externals"]
    assert isinstance(cache, RepositoryCacheStep)
    assert {"grpc", "protobuf_archive", "eigen_archive", "io_bazel_rules_closure"} <= set(cache.inputs)
    assert "swig" not in cache.inputs
    bazelrc = rendered(run, "home")[".bazelrc"]
    assert "--override_repository=swig=/externals/swig\n" in bazelrc
    assert "--repository_cache=/build/repository-cache\n" in bazelrc
    assert "override_repository=grpc" not in bazelrc


def test_an_external_of_a_feature_comes_with_it(catalog: Catalog) -> None:
    def names(**features: bool) -> set[str]:
        return {item.name for item in externals_of(resolve(replace(ASKED, features=features), catalog), catalog)}

    assert "llvm" not in names()
    assert names(xla=True) - names() == {"llvm"}
    assert names(s3=True) - names() == {"aws"}


def test_eigen_comes_from_another_place_with_its_own_hash_and_the_patch_that_says_so(catalog: Catalog) -> None:
    found = planned(catalog)
    eigen = compile_step(found).inputs["externals"].inputs["eigen_archive"]
    assert isinstance(eigen, FetchStep)
    assert all("bitbucket" not in place.uri for place in eigen.places)
    patches = [catalog.patch_text("tensorflow", patch.file) for patch in found.resolution.patches]
    assert any(f'sha256 = "{eigen.sha256}"' in text for text in patches)


def test_eigen_of_1_2_and_1_3_is_a_later_one_on_arm(catalog: Catalog) -> None:
    found = {}
    for target in ("nanopi-m4", "x86_64"):
        for version in ("1.2.0", "1.3.0"):
            made = planned(catalog, replace(ASKED, version=version, target=target))
            eigen = compile_step(made).inputs["externals"].inputs["eigen_archive"]
            assert isinstance(eigen, FetchStep)
            patches = [catalog.patch_text("tensorflow", patch.file) for patch in made.resolution.patches]
            written = [text for text in patches if f'+      sha256 = "{eigen.sha256}"' in text]
            assert len(written) == 1, "the last patch of workspace.bzl names the Eigen that is fetched"
            found[target] = eigen.file
    assert found["nanopi-m4"] == "eigen-git-mirror-0b122190ccfb.tar.gz"
    assert found["x86_64"] == "eigen-git-mirror-7dd2cb0ac2f2.tar.gz"


def test_a_file_of_mine_must_be_the_one_that_upstream_pins(catalog: Catalog) -> None:
    mine = LocalSource(path="/home/me/grpc.tar.gz", sha256="0" * 64, folder=False)
    with pytest.raises(InputError, match=r"this is not the grpc that tensorflow 1\.5\.0 pins"):
        planned(catalog, sources={"grpc": mine})


def test_a_source_that_the_build_does_not_reach_is_unknown(catalog: Catalog) -> None:
    mine = LocalSource(path="/home/me/llvm.tar.gz", sha256="0" * 64, folder=False)
    with pytest.raises(InputError, match="has no source 'llvm'"):
        planned(catalog, sources={"llvm": mine})


def test_the_cache_is_laid_out_as_bazel_looks_for_it(tmp_path: Path) -> None:
    steps = {
        name: FetchStep(name=name, file=f"{name}.tar.gz", sha256=digit * 64, places=())
        for name, digit in (("one", "1"), ("two", "2"), ("again", "1"))
    }
    inputs = {}
    for name, step in steps.items():
        inputs[name] = tmp_path / name
        inputs[name].mkdir()
        (inputs[name] / step.file).write_text(step.sha256)
    cache = RepositoryCacheStep(name="cache", inputs=steps)
    out = tmp_path / "out"
    out.mkdir()
    job = Job(
        key=cache.key,
        out=out,
        work=tmp_path,
        settings=Settings(store=tmp_path / "store"),
        log=print,
        cancelled=threading.Event(),
    )
    run_repository_cache(cache, inputs, job)
    files = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert files == {f"content_addressable/sha256/{digit * 64}/file": digit * 64 for digit in "12"}


# --- configure, Bazel, Python


def test_configure_is_answered_and_nothing_is_native(catalog: Catalog) -> None:
    run = compile_step(planned(catalog))
    assert run.commands[0] == ("/usr/bin/python2.7", "configure.py")
    assert run.commands[1] == ("bazel", "build", "//tensorflow/tools/pip_package:build_pip_package")
    assert run.commands[2][-2:] == ("--platform", "linux_aarch64")
    assert run.env["PYTHON_BIN_PATH"] == "/toolchain/host/path/python"
    assert rendered(run, "toolchain")["host/path/python"] == "/usr/bin/python2.7"
    assert (run.env["TF_NEED_JEMALLOC"], run.env["TF_NEED_CUDA"]) == ("1", "0")
    everything = [*run.env.values(), *rendered(run, "home").values(), *rendered(run, "toolchain").values()]
    assert not any("-march=native" in text for text in everything)


def test_a_feature_answers_configure_and_bazel(catalog: Catalog) -> None:
    with_s3 = compile_step(planned(catalog, replace(ASKED, features={"s3": True, "jemalloc": False})))
    assert (with_s3.env["TF_NEED_S3"], with_s3.env["TF_NEED_JEMALLOC"]) == ("1", "0")
    bazelrc = rendered(with_s3, "home")[".bazelrc"]
    assert "--define=with_s3_support=true" in bazelrc
    assert "with_jemalloc" not in bazelrc


def test_on_the_builders_own_architecture_tools_are_compiled_once(catalog: Catalog) -> None:
    flag = "--distinct_host_configuration=false"
    native = replace(ASKED, target="x86_64", features={"avx": False})
    assert flag in rendered(compile_step(planned(catalog, native)), "home")[".bazelrc"]
    assert flag not in rendered(compile_step(planned(catalog)), "home")[".bazelrc"]


def test_where_debian_has_no_numpy_ours_is_built_and_its_headers_are_used(catalog: Catalog) -> None:
    found = planned(catalog)
    assert found.resolution.numpy is not None
    assert found.resolution.numpy.release.version == "1.16.6"
    run = compile_step(found)
    assert run.mounts["numpy"] == "/requires/numpy"
    links = rendered(run, "toolchain")
    folder = "repositories/local_config_python"
    assert links[f"{folder}/numpy_include/numpy"] == "/requires/numpy/numpy/core/include/numpy"
    assert links[f"{folder}/python_include"] == "/sysroot/usr/include/python2.7"
    assert any(step.key == run.inputs["numpy"].inputs["archive"].key for step in found.proof.inputs.values())


def test_two_pythons_share_a_cache_and_two_processors_do_not(catalog: Catalog) -> None:
    def run(asked: Request) -> RunStep:
        return compile_step(planned(catalog, asked))

    old, new, other = run(ASKED), run(replace(ASKED, python="3.9")), run(replace(ASKED, cpu="cortex-a57"))
    assert set(old.caches) == set(new.caches)
    assert set(old.caches).isdisjoint(other.caches)
    # what is in the command or the environment of Bazel's actions, and so in the keys of what the cache holds
    assert rendered(old, "home") == rendered(new, "home")
    for name in ("PATH", "PYTHON_BIN_PATH", "PYTHON_LIB_PATH"):
        assert old.env[name] == new.env[name]


def test_patches_for_later_pythons_leave_python_2_alone(catalog: Catalog) -> None:
    old, new = (
        {patch.file for patch in resolve(replace(ASKED, python=python), catalog).patches} for python in ("2.7", "3.9")
    )
    later = {
        "cython-python-3.7.patch",
        "numpy-1.19-ufunc.patch",
        "python-3-output-folder.patch",
        "python-3.7-protobuf-extension.patch",
        "python-3.7-utf8-1.5.patch",
        "python-3.7-utf8-eager-1.5.patch",
        "python-3.7-utf8-eager.patch",
        "python-3.8-tp-print.patch",
        "python-3.9-gcd.patch",
    }
    assert new - old == later
    assert old < new


# --- eras, outputs


def test_an_era_holds_where_the_release_says_nothing_else(data: Path) -> None:
    path = data / "recipes/tensorflow/1.5.0.toml"
    path.write_text(path.read_text() + "\n[bazel.configure.answers]\nTF_NEED_MPI = '1'\n")
    build = Catalog(data).release("tensorflow", "1.5.0").bazel
    assert build is not None and build.configure is not None
    assert build.configure.answers["TF_NEED_MPI"] == "1"
    assert build.configure.answers["TF_NEED_CUDA"] == "0"


def test_an_era_that_is_not_there(data: Path) -> None:
    path = data / "recipes/tensorflow/1.5.0.toml"
    path.write_text(path.read_text().replace('era = "1.4-1.5"', 'era = "1.4-1.6"'))
    with pytest.raises(DataError, match=r"there is no era '1\.4-1\.6'"):
        Catalog(data).release("tensorflow", "1.5.0")


def test_an_output_that_a_release_lacks(catalog: Catalog) -> None:
    with pytest.raises(InputError, match=r"1\.5\.0 has no output 'rpm'; it has: wheel, libc, tools"):
        resolve(replace(ASKED, output="rpm"), catalog)
    with pytest.raises(InputError, match=r"has no output 'libc'; it has: wheel"):
        resolve(Request(recipe="wrapt", target="rpi4", output="libc"), catalog)
