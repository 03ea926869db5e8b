"""Bundles: planned with the releases that they are built with, for the host and for the target."""

from __future__ import annotations

import pytest

from crosswheel.errors import InputError
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import BundleStep, RunStep
from crosswheel.proving.bundles import RULES
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit


def planned(catalog: Catalog, recipe: str, **more: str) -> Plan:
    request = Request(recipe=recipe, target=more.pop("target", "nanopi-m4"), **more)  # type: ignore[arg-type]
    return plan(resolve(request, catalog), catalog, rules={}, bundle_rules=RULES)


def names(found: Plan, kind: str) -> list[str]:
    return [step.name for step in found.steps if step.kind == kind]


def test_protoc_is_built_by_cmake_for_the_target(catalog: Catalog) -> None:
    found = planned(catalog, "protoc", version="3.4.0")
    assert isinstance(found.output, BundleStep)
    assert found.output.file == "protobuf-3.4.0-nanopi-m4.tar.gz"
    run = found.output.inputs["run"]
    assert isinstance(run, RunStep)
    configure, build = run.commands
    assert configure[:4] == ("cmake", "-G", "Ninja", "-S")
    assert configure[4] == "/build/src/cmake"
    assert "-DCMAKE_TOOLCHAIN_FILE=/toolchain/cmake/toolchain.cmake" in configure
    assert "-Dprotobuf_HOST_CXX=/toolchain/host/bin/c++" in configure
    assert build[-1] == "install/strip"


def test_another_distribution_of_a_target_is_in_the_name(catalog: Catalog) -> None:
    found = planned(catalog, "protobuf", version="3.4.0", target="x86_64", python="3.9")
    assert isinstance(found.output, BundleStep)
    assert found.output.file == "protobuf-3.4.0-x86_64-debian-11.tar.gz"


@pytest.mark.parametrize(("plugin", "protobuf"), [("0.15.0", "3.0.0-beta-3"), ("1.6.1", "3.4.0")])
def test_the_plugin_is_built_with_its_protobuf_for_the_target(catalog: Catalog, plugin: str, protobuf: str) -> None:
    found = planned(catalog, "grpc-java", version=plugin)
    assert names(found, "run")[:2] == [
        f"compile protobuf {protobuf} for nanopi-m4",
        f"compile grpc-java {plugin} for nanopi-m4",
    ]
    run = found.output.inputs["run"]
    assert isinstance(run, RunStep)
    assert run.mounts["target protobuf"] == "/externals/protobuf"
    assert "-DPROTOBUF=/externals/protobuf" in run.commands[0]
    assert "target protobuf" in found.proof.inputs


def test_bazel_is_built_with_tools_for_the_host(catalog: Catalog) -> None:
    found = planned(catalog, "bazel", version="0.4.5")
    assert [name for name in names(found, "run") if name.startswith("compile")] == [
        "compile protobuf 3.0.0 for x86_64",
        "compile protobuf 3.0.0-beta-3 for x86_64",
        "compile grpc-java 0.15.0 for x86_64",
        "compile bazel 0.4.5 for nanopi-m4",
    ]
    run = found.output.inputs["run"]
    assert isinstance(run, RunStep)
    assert run.mounts["host protobuf"] == "/tools/protobuf"
    assert run.env["PATH"] == "/tools/protobuf/bin:/tools/grpc-java/bin:/usr/bin:/bin"
    assert run.env["GRPC_JAVA_PLUGIN"] == "/tools/grpc-java/bin/protoc-gen-grpc-java"
    assert "--cpu=aarch64" in run.env["EXTRA_BAZEL_ARGS"]
    assert "cpu-aarch64.patch" in [patch.file for patch in found.resolution.patches]
    # The tools run in the builder, whose distribution is the toolchain's.
    assert {item.resolution.sysroot.name for item in found.resolution.chain} == {"debian-11"}


def test_newer_bazel_needs_no_patch_for_the_processor(catalog: Catalog) -> None:
    assert [patch.file for patch in planned(catalog, "bazel", version="0.7.0").resolution.patches] == [
        "grpc-gettid.patch"
    ]


def test_the_c_library_has_a_pkg_config_file_and_a_program_to_try(catalog: Catalog) -> None:
    found = planned(catalog, "tf", version="1.5.0", python="2.7", output="libc")
    assert isinstance(found.output, BundleStep)
    assert found.output.file == "tensorflow-1.5.0-libc-nanopi-m4.tar.gz"
    rendered = found.output.inputs["files"].fields()
    assert list(rendered) == ["lib/pkgconfig/tensorflow.pc"]
    assert "Libs: -L${libdir} -ltensorflow\n" in str(rendered["lib/pkgconfig/tensorflow.pc"]).replace("\\n", "\n")
    trial = found.proof.inputs["trial"]
    assert isinstance(trial, RunStep)
    assert trial.commands == (("make", "-f", "libc.mk", "BUNDLE=/bundle"),)
    assert trial.env["PKG_CONFIG_LIBDIR"] == "/bundle/lib/pkgconfig"
    assert trial.env["CC"] == "/toolchain/bin/cc"


def test_an_output_that_a_recipe_does_not_have(catalog: Catalog) -> None:
    with pytest.raises(InputError, match="cannot be built") as caught:
        planned(catalog, "protobuf", output="wheel")
    assert "protobuf 3.4.0 has no output 'wheel'; it has: protoc" in str(caught.value)
    with pytest.raises(InputError) as caught:
        planned(catalog, "tf", version="1.5.0", python="2.7", output="libx")
    assert "no output 'libx'; it has: wheel, libc, tools" in str(caught.value)
