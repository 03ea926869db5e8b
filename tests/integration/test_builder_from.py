"""A builder made FROM an image of the user's, by a real engine: its files become a root like every other."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from busybox import make_root

from crosswheel.building.job import Job, Settings
from crosswheel.building.sandbox.images import run_image
from crosswheel.errors import FetchError, InputError, StepError
from crosswheel.planning.plan import plan
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import ImageStep
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.integration

ABSENT = "127.0.0.1:1/builder@sha256:" + "0" * 64


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    from docker import APIClient

    api = APIClient(version="auto")
    yield api
    api.close()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, engine: Any) -> Iterator[str]:
    """An image that stands in for the user's, by its digest."""
    root = make_root(tmp_path_factory.mktemp("image"))
    archive = root.parent / "root.tar"
    subprocess.run(("tar", "-C", str(root), "-cf", str(archive), "."), check=True)
    engine.import_image_from_file(str(archive), repository="crosswheel-test/from", tag="1")
    yield engine.inspect_image("crosswheel-test/from:1")["Id"]
    engine.remove_image("crosswheel-test/from:1", force=True)


def job(tmp_path: Path, key: str) -> Job:
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    work.mkdir()
    return Job(
        key=key,
        out=out,
        work=work,
        settings=Settings(store=tmp_path / "store"),
        log=lambda line: None,
        cancelled=threading.Event(),
    )


def step(image: str, *commands: str) -> ImageStep:
    text = "\n".join((f"FROM {image}", *commands)) + "\n"
    return ImageStep(name="builder", image=image, dockerfile=text)


def test_the_images_files_become_the_root(tmp_path: Path, image: str, engine: Any) -> None:
    made = step(image, 'RUN ["/bin/sh", "-c", "echo built > /etc/made; ln -s /etc/made /etc/link"]')
    run_image(made, {}, job(tmp_path, made.key))
    out = tmp_path / "out"
    assert (out / "etc/made").read_text() == "built\n"
    assert (out / "etc/link").readlink() == Path("made")
    assert (out / "usr/bin/busybox").is_file()
    assert (out / "bin").readlink() == Path("usr/bin")
    assert not engine.images(f"crosswheel/from:{made.key[:24]}")
    assert not engine.containers(all=True, filters={"label": f"crosswheel.key={made.key}"})


def test_a_command_that_fails(tmp_path: Path, image: str, engine: Any) -> None:
    made = step(image, 'RUN ["/bin/sh", "-c", "echo no such package >&2; exit 3"]')
    with pytest.raises(StepError) as caught:
        run_image(made, {}, job(tmp_path, made.key))
    assert "no such package" in str(caught.value)
    assert not engine.containers(all=True, filters={"label": f"crosswheel.key={made.key}"})


def test_an_image_that_cannot_be_had(tmp_path: Path) -> None:
    made = step(ABSENT)
    with pytest.raises(FetchError) as caught:
        run_image(made, {}, job(tmp_path, made.key))
    assert "--builder-from" in caught.value.hint


def test_it_is_planned_instead_of_the_packages(catalog: Catalog) -> None:
    wanted = "debian@sha256:" + "1" * 64
    asked = Request(recipe="wrapt", target="rpi4", builder_from=wanted)
    builder = plan(resolve(asked, catalog), catalog, rules={}).wheel.inputs["run"].inputs["builder"]
    assert isinstance(builder, ImageStep)
    lines = builder.dockerfile.splitlines()
    assert f"FROM {wanted}" in lines
    assert any(line.startswith('RUN ["apt-get", "install"') and '"g++-12-aarch64-linux-gnu"' in line for line in lines)
    with pytest.raises(InputError, match="is no image by digest"):
        resolve(Request(recipe="wrapt", target="rpi4", builder_from="debian:12"), catalog)


def test_no_packages_no_apt(catalog: Catalog) -> None:
    text = Renderer(catalog).render("dockerfile/builder.j2", {"image": "x", "packages": []})
    assert "apt-get" not in text
