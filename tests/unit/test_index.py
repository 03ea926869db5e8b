"""The index: only proved wheels enter, the same again changes nothing, another one of the name is refused."""

from __future__ import annotations

import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_writer import CATALOG, WHEN, released

from crosswheel.digest import sha256_bytes, sha256_file
from crosswheel.errors import DataError, InputError, MachineError
from crosswheel.proving.facts import read_metadata_file
from crosswheel.proving.findings import Severity
from crosswheel.publishing import index as index_module
from crosswheel.publishing.index import Built, build_index, rewrite_index
from crosswheel.publishing.ledger import Listed, read_ledger
from crosswheel.publishing.levels import Listing
from crosswheel.publishing.pages import project_pages
from crosswheel.publishing.publish import publish
from crosswheel.publishing.stages import locked
from crosswheel.publishing.to_folder import Folder
from crosswheel.publishing.yanks import Yank, Yanks, read_yanks, unyank, yank

pytestmark = pytest.mark.unit


class Anchors(HTMLParser):
    """The anchors of a page, each with its attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.tags: set[str] = set()
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "a":
            self.found.append({**{name: value or "" for name, value in attrs}, "text": ""})
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "a"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1]["text"] += data


def build(dist: Path, index: Path, **options: Any) -> Built:
    return build_index(index, dist, CATALOG, when=WHEN, **options)


def page(index: Path, *parts: str) -> list[dict[str, str]]:
    return Anchors(index.joinpath(*parts, "index.html").read_text()).found


def answer(index: Path, *parts: str) -> Any:
    return json.loads(index.joinpath(*parts, "index.v1_json").read_text())


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return tmp_path / "dist"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "an index"


# --- what an index says ----------------------------------------------------------------------------------------------


def test_a_wheel_stands_in_the_index_with_all_that_pip_asks(dist: Path, index: Path) -> None:
    wheel = released(dist, "Quick_Thing", "1.0+jp4.6")
    done = build(dist, index)
    assert done.added == (f"rpi4/{wheel.name}",)
    (link,) = page(index, "simple", "quick-thing")
    lies = index / "wheels" / "rpi4" / wheel.name
    metadata = sha256_bytes(read_metadata_file(wheel) or b"")
    assert link == {
        "href": f"../../wheels/rpi4/Quick_Thing-1.0%2Bjp4.6-cp311-cp311-linux_aarch64.whl#sha256={sha256_file(wheel)}",
        "data-requires-python": ">=3.8,<4",
        "data-dist-info-metadata": f"sha256={metadata}",
        "data-core-metadata": f"sha256={metadata}",
        "text": wheel.name,
    }
    assert lies.read_bytes() == wheel.read_bytes()
    assert sha256_file(lies.with_name(f"{wheel.name}.metadata")) == metadata
    assert lies.with_name(f"{wheel.name}.proof.json").is_file()
    assert page(index, "simple") == [{"href": "quick-thing/", "text": "quick-thing"}]
    assert (index / "simple" / "quick-thing" / "index.html").read_text().startswith("<!DOCTYPE html>")


def test_the_json_says_the_same(dist: Path, index: Path) -> None:
    wheel = released(dist, version="1.0")
    released(dist, version="1.10", more="")
    released(dist, version="1.9")
    build(dist, index)
    told = answer(index, "rpi4", "simple", "quick")
    assert told["meta"]["api-version"] == "1.1"
    assert told["name"] == "quick"
    assert told["versions"] == ["1.0", "1.9", "1.10"]
    metadata = {"sha256": sha256_bytes(read_metadata_file(wheel) or b"")}
    assert told["files"][0] == {
        "filename": wheel.name,
        "url": f"../../../wheels/rpi4/{wheel.name}",
        "hashes": {"sha256": sha256_file(wheel)},
        "requires-python": ">=3.8,<4",
        "core-metadata": metadata,
        "yanked": False,
        "size": wheel.stat().st_size,
        "upload-time": "2026-11-21T23:00:00Z",
        "_target": "rpi4",
        "_cpu": "cortex-a72",
        "_beside": [f"../../../wheels/rpi4/{wheel.name}.proof.json"],
    }
    assert "requires-python" not in told["files"][2]
    assert answer(index, "rpi4", "simple")["projects"] == [{"name": "quick"}]


def test_every_link_of_every_page_leads_to_its_bytes(dist: Path, index: Path) -> None:
    released(dist, "one")
    released(dist, "two", folder="rk3588", content=b"x = 1\n")
    released(dist, "two", folder="rpi4")
    released(dist, "one", folder="x86_64", tag="cp311-cp311-linux_x86_64")
    released(dist, "one", folder="x86_64/x86-64-v3", tag="cp311-cp311-linux_x86_64", build="40_x86_64_v3")
    build(dist, index)
    seen = 0
    for path in index.rglob("index.html"):
        for link in Anchors(path.read_text()).found:
            url, fragment = urldefrag(urljoin(path.as_uri(), link["href"]))
            place = Path(unquote(url.removeprefix("file://")))
            if fragment:
                assert fragment == f"sha256={sha256_file(place)}"
                seen += 1
            else:
                assert (place / "index.html").is_file()
    assert seen == 1 + 1 + 2 + 1 + 1 + 2, "simple/, and those of rk3588, rpi4, x86_64 and x86-64-v3"


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_whatever_a_wheel_or_a_yank_says_is_text_on_the_page(python: str, reason: str) -> None:
    wheel = Listed(
        file="quick-1.0-cp311-cp311-linux_aarch64.whl",
        folder="rpi4",
        target="rpi4",
        cpu="cortex-a72",
        sha256="a" * 64,
        size=1,
        metadata_sha256="b" * 64,
        requires_python=python,
        entered=WHEN,
    )
    listing = Listing(folder="rpi4", wheels=(wheel,), apart={})
    pages = dict(project_pages(listing, {wheel.place: reason}, {wheel.place: frozenset()}))
    text = pages["rpi4/simple/quick/index.html"].decode("utf-8", "replace")
    if python.isprintable() and reason.isprintable():
        anchors = Anchors(text)
        assert anchors.found[0]["data-requires-python"] == python
        assert anchors.found[0]["data-yanked"] == reason
        assert anchors.tags == {"html", "head", "meta", "title", "body", "h1", "a", "br"}
    (file,) = json.loads(pages["rpi4/simple/quick/index.v1_json"])["files"]
    assert (file["requires-python"], file["yanked"]) == (python, reason)


# --- the same again, and another -------------------------------------------------------------------------------------


def test_the_same_wheels_again_change_no_byte_and_no_time(dist: Path, index: Path) -> None:
    for version in ("1.0", "1.1"):
        released(dist, version=version)
    build(dist, index)
    before = state(index)
    done = build_index(index, dist, CATALOG)  # at another time
    assert (done.added, done.written) == ((), ())
    assert state(index) == before


def test_equal_wheels_give_equal_indexes_wherever_and_in_whatever_order(tmp_path: Path) -> None:
    first, second = tmp_path / "1" / "dist", tmp_path / "other" / "d"
    for version in ("1.0", "1.1"):
        released(first, version=version)
    for version in ("1.1", "1.0"):
        released(second, version=version)
        build(second, tmp_path / "other" / "index")
    build(first, tmp_path / "1" / "index")
    one, two = (
        {path: data for path, (_, data) in state(place / "index").items()}
        for place in (tmp_path / "1", tmp_path / "other")
    )
    assert one == two


def test_another_wheel_under_the_same_name_is_refused_and_nothing_is_written(dist: Path, index: Path) -> None:
    wheel = released(dist)
    build(dist, index)
    before = state(index)
    released(dist, content=b"answer = 43\n")
    released(dist, "another")
    with pytest.raises(InputError, match="another wheel of this name") as told:
        build(dist, index)
    assert told.value.where == str(wheel)
    assert sha256_file(wheel) in told.value.why
    assert sha256_file(index / "wheels" / "rpi4" / wheel.name) in told.value.why
    assert "version or build tag" in told.value.hint
    assert state(index) == before


def test_all_that_are_refused_are_told_at_once(dist: Path, index: Path) -> None:
    for name in ("one", "two"):
        released(dist, name)
    build(dist, index)
    for name in ("one", "two"):
        released(dist, name, content=b"changed\n")
    with pytest.raises(InputError, match=r"^2 wheels are not those") as told:
        build(dist, index)
    assert all(f"{name}-1.0" in told.value.why for name in ("one", "two"))


def test_a_new_proof_of_the_same_wheel_replaces_the_old_one_and_no_page(dist: Path, index: Path) -> None:
    wheel = released(dist)
    build(dist, index)
    proof = wheel.with_name(f"{wheel.name}.proof.json")
    proof.write_text(proof.read_text().replace("it was said", "it was said again"))
    done = build(dist, index)
    assert done.written == (f"wheels/rpi4/{proof.name}",)
    assert "said again" in (index / "wheels" / "rpi4" / proof.name).read_text()


def test_a_signature_stays_until_another_statement_comes(dist: Path, index: Path) -> None:
    """Whoever signs in the index alone does not lose it by the next build; one of a former statement is no more."""
    wheel = released(dist)
    statement = wheel.with_name(f"{wheel.name}.intoto.json")
    statement.write_text("{}")
    build(dist, index)
    signature = index / "wheels" / "rpi4" / f"{wheel.name}.intoto.jsonl"
    signature.write_text("of the first")
    build(dist, index)
    assert signature.is_file()
    statement.write_text('{"another": 1}')
    build(dist, index)
    assert not signature.exists()
    assert "intoto.jsonl" not in json.dumps(answer(index, "simple", "quick"))


def test_wheels_that_are_no_longer_in_dist_stay_in_the_index(dist: Path, index: Path) -> None:
    released(dist)
    build(dist, index)
    shutil.rmtree(dist / "rpi4")
    released(dist, "later")
    build(dist, index)
    assert [link["text"] for link in page(index, "simple")] == ["later", "quick"]


# --- what cannot enter -----------------------------------------------------------------------------------------------


def refused(dist: Path, index: Path) -> InputError:
    with pytest.raises(InputError) as told:
        build(dist, index)
    assert not (index / "simple").exists()
    assert told.value.where or told.value.why
    assert told.value.hint
    return told.value


def test_a_wheel_without_a_proof(dist: Path, index: Path) -> None:
    wheel = released(dist)
    wheel.with_name(f"{wheel.name}.proof.json").unlink()
    told = refused(dist, index)
    assert told.where == str(wheel)
    assert "no proof beside it" in told.what


def test_a_wheel_whose_proof_is_of_other_bytes(dist: Path, index: Path) -> None:
    wheel = released(dist)
    was = sha256_file(wheel)
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    told = refused(dist, index)
    assert told.where == str(wheel)
    assert "not of this wheel" in told.what
    assert was in told.why
    assert sha256_file(wheel) in told.why


def test_a_wheel_whose_proof_is_of_another_name(dist: Path, index: Path) -> None:
    released(dist, told={"wheel": "other-1.0-cp311-cp311-linux_aarch64.whl"})
    assert "it is that of other-1.0" in refused(dist, index).why


def test_a_wheel_whose_proof_failed_although_it_says_that_it_passed(dist: Path, index: Path) -> None:
    released(dist, severity=Severity.FAIL, told={"passed": True})
    told = refused(dist, index)
    assert "proof of this wheel failed" in told.what
    assert "it was said" in told.why


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "wheel": "x"}'])
def test_a_proof_that_is_none(dist: Path, index: Path, text: str) -> None:
    wheel = released(dist)
    proof = wheel.with_name(f"{wheel.name}.proof.json")
    proof.write_text(text)
    with pytest.raises(InputError) as told:
        build(dist, index)
    assert told.value.where == str(proof)


def test_a_wheel_in_the_folder_of_another_target(dist: Path, index: Path) -> None:
    wheel = released(dist)
    (dist / "rk3588").mkdir()
    for path in (wheel, wheel.with_name(f"{wheel.name}.proof.json")):
        path.rename(dist / "rk3588" / path.name)
    assert "for rpi4, cortex-a72" in refused(dist, index).why


def test_a_wheel_for_another_cpu_has_a_build_tag(dist: Path, index: Path) -> None:
    released(dist, folder="x86_64/x86-64-v3", tag="cp311-cp311-linux_x86_64")
    assert "build tag" in refused(dist, index).why


@pytest.mark.parametrize("name", ["quïck", "q" * 300])
def test_a_name_that_no_wheel_of_ours_has(dist: Path, index: Path, name: str) -> None:
    wheel = released(dist)
    try:
        for path in (wheel, wheel.with_name(f"{wheel.name}.proof.json")):
            path.rename(path.with_name(path.name.replace("quick", name)))
    except OSError:
        return  # no file system has it
    proof = next(dist.rglob("*.proof.json"))
    proof.write_text(proof.read_text().replace("quick-1.0-", f"{name}-1.0-"))
    with pytest.raises(InputError):
        build(dist, index)
    assert not (index / "wheels").exists()


def test_what_lies_where_no_released_wheels_lie_is_passed_by(dist: Path, index: Path) -> None:
    released(dist)
    for folder in ("failed", "rpi4/wheelhouse"):
        (dist / folder).mkdir(parents=True)
        (dist / folder / "x-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    assert len(build(dist, index).added) == 1


def test_a_folder_that_is_not_there(tmp_path: Path, index: Path) -> None:
    with pytest.raises(InputError, match="no such folder of wheels"):
        build(tmp_path / "nowhere", index)


# --- the folder ------------------------------------------------------------------------------------------------------


def test_a_folder_with_other_things_becomes_no_index(dist: Path, tmp_path: Path) -> None:
    released(dist)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="no index, and no empty folder"):
        build(dist, tmp_path / "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_foreign_files_elsewhere_stay_and_are_told(dist: Path, index: Path) -> None:
    released(dist)
    build(dist, index)
    (index / "robots.txt").write_text("all")
    done = build(dist, index)
    (note,) = done.notes
    assert "robots.txt" in note
    assert (index / "robots.txt").read_text() == "all"


@pytest.mark.parametrize(
    "path",
    [
        "wheels/rpi4/evil-9.0-py3-none-any.whl",
        "wheels/rpi4/quick-1.0-cp311-cp311-linux_aarch64.whl.asc",
        "simple/quick/notes.txt",
        "simple/evil/index.html",
        "rpi4/simple/evil/index.v1_json",
    ],
)
def test_foreign_files_among_those_of_the_index_are_an_error(dist: Path, index: Path, path: str) -> None:
    released(dist)
    build(dist, index)
    (index / path).parent.mkdir(parents=True, exist_ok=True)
    (index / path).write_text("{}")
    released(dist, "another")
    before = state(index)
    with pytest.raises(InputError, match="not of it") as told:
        build(dist, index)
    assert path in told.value.why
    assert state(index) == before


def test_a_link_to_a_folder_elsewhere_is_foreign(dist: Path, index: Path, tmp_path: Path) -> None:
    released(dist)
    build(dist, index)
    (tmp_path / "elsewhere").mkdir()
    (index / "wheels" / "rk3588").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="wheels/rk3588"):
        build(dist, index)


def test_a_wheel_of_the_index_that_was_changed_is_told(dist: Path, index: Path) -> None:
    wheel = released(dist)
    build(dist, index)
    (index / "wheels" / "rpi4" / wheel.name).write_bytes(b"x" * wheel.stat().st_size)
    with pytest.raises(InputError, match="changed") as told:
        build(dist, index)
    assert told.value.where.endswith(wheel.name)


def test_a_wheel_of_the_index_that_is_gone_is_told_and_may_be_forgotten(dist: Path, index: Path) -> None:
    wheel = released(dist)
    released(dist, "other")
    build(dist, index)
    wheel.unlink()
    (index / "wheels" / "rpi4" / wheel.name).unlink()
    with pytest.raises(InputError, match="gone") as told:
        build(dist, index)
    assert "--forget" in told.value.hint
    build(dist, index, forget=True)
    assert [link["text"] for link in page(index, "simple")] == ["other"]
    assert not (index / "simple" / "quick").exists()
    assert not list((index / "wheels").rglob("quick*"))


def test_what_a_killed_build_left_is_cleared_away(dist: Path, index: Path) -> None:
    released(dist)
    build(dist, index)
    partial = index / "wheels" / "rpi4" / ".quick-2.0.whl.4711.partial"
    partial.write_bytes(b"half")
    build(dist, index)
    assert not partial.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1, "wheels": [{}]}', '{"schema": 9, "wheels": []}', "\x00"])
def test_a_list_of_wheels_that_cannot_be_read(dist: Path, index: Path, text: str) -> None:
    released(dist)
    build(dist, index)
    (index / "releases.json").write_text(text)
    with pytest.raises(DataError, match="cannot be read"):
        build(dist, index)


def test_two_commands_at_once_on_one_index(dist: Path, index: Path) -> None:
    released(dist)
    build(dist, index)
    with locked(index), pytest.raises(MachineError, match="at work"):
        build(dist, index)


def test_at_whatever_write_a_build_is_killed_the_index_is_whole(
    dist: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(dist, "old")
    build(dist, index)
    for name in ("new", "old"):
        released(dist, name, version="2.0")
    total = len(killed_at(10**6, dist, index, monkeypatch, dry=True))
    assert total > 12
    for number in range(total):
        copy = index.parent / f"copy {number}"
        shutil.copytree(index, copy)
        killed_at(number, dist, copy, monkeypatch)
        whole(copy)
        assert next(link["text"] for link in page(copy, "simple", "old")) == "old-1.0-cp311-cp311-linux_aarch64.whl"
        build(dist, copy)
        whole(copy)
        assert len(page(copy, "simple")) == 2


class Killed(BaseException):
    """As if the process had been killed."""


def killed_at(number: int, dist: Path, index: Path, monkeypatch: pytest.MonkeyPatch, *, dry: bool = False) -> list[str]:
    """Builds, and dies at the moment when a file is to be moved to its place; the files before it."""
    done: list[str] = []
    replace = Path.replace

    def counted(self: Path, target: Path) -> Path:
        if len(done) == number:
            raise Killed
        done.append(str(target))
        return replace(self, target)

    place = index.parent / "dry" if dry else index
    if dry:
        shutil.copytree(index, place)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", counted)
        if dry:
            build(dist, place)
        else:
            with pytest.raises(Killed):
                build(dist, place)
    return done


def whole(index: Path) -> None:
    """Every link leads to the bytes that it says, every package that is listed has a page."""
    for path in index.rglob("index.html"):
        for link in Anchors(path.read_text()).found:
            url, fragment = urldefrag(urljoin(path.as_uri(), link["href"]))
            place = Path(unquote(url.removeprefix("file://")))
            if fragment:
                assert fragment == f"sha256={sha256_file(place)}"
                said = link["data-core-metadata"].removeprefix("sha256=")
                assert said == sha256_file(place.with_name(f"{place.name}.metadata"))
            else:
                assert (place / "index.html").is_file()


# --- several targets -------------------------------------------------------------------------------------------------


def test_each_target_has_an_index_and_a_name_that_two_give_is_in_those_alone(dist: Path, index: Path) -> None:
    for folder in ("rpi4", "rk3588"):
        released(dist, folder=folder, content=folder.encode())
    released(dist, "alone")
    done = build(dist, index)
    assert [link["text"] for link in page(index, "simple")] == ["alone", "quick"]
    assert page(index, "simple", "quick") == []
    assert "rk3588/simple/, rpi4/simple/" in (index / "simple" / "quick" / "index.html").read_text()
    assert len(page(index, "rpi4", "simple", "quick")) == len(page(index, "rk3588", "simple", "quick")) == 1
    assert [link["text"] for link in page(index, "rk3588", "simple")] == ["quick"]
    assert "rk3588, rpi4" in done.notes[0]


def test_equal_wheels_of_two_targets_are_one(dist: Path, index: Path) -> None:
    for folder in ("rpi4", "rk3588"):
        released(dist, folder=folder)
    build(dist, index)
    assert len(page(index, "simple", "quick")) == 1


X86 = "cp311-cp311-linux_x86_64"


def family(dist: Path, name: str = "quick") -> None:
    released(dist, name, folder="x86_64", tag=X86)
    released(dist, name, folder="x86_64/x86-64-v2", tag=X86, build="20_x86_64_v2")
    released(dist, name, folder="x86_64/x86-64-v3", tag=X86, build="40_x86_64_v3")


def test_the_wheels_of_a_release_by_instruction_set_stand_side_by_side_where_the_processor_has_all(
    dist: Path, index: Path
) -> None:
    family(dist)
    build(dist, index)
    assert len(page(index, "simple", "quick")) == 1
    assert len(page(index, "x86_64", "simple", "quick")) == 1
    names = [link["text"].split("-")[2] for link in page(index, "x86_64", "x86-64-v2", "simple", "quick")]
    assert names == ["20_x86_64_v2", "cp311"]
    names = [link["text"].split("-")[2] for link in page(index, "x86_64", "x86-64-v3", "simple", "quick")]
    assert names == ["20_x86_64_v2", "40_x86_64_v3", "cp311"]
    told = (index / "x86_64" / "x86-64-v3" / "simple" / "quick" / "index.html").read_text()
    assert "for x86_64, x86-64-v3<br>" in told


def test_a_processor_that_has_less_than_a_level_never_meets_its_wheels(dist: Path, index: Path) -> None:
    family(dist)
    released(dist, folder="x86_64/goldmont", tag=X86, build="28_goldmont")
    released(dist, folder="x86_64/sandybridge", tag=X86, build="30_sandybridge")
    build(dist, index)
    listed = {
        folder.parent.name: {
            answer["_cpu"] for answer in json.loads(folder.joinpath("quick", "index.v1_json").read_text())["files"]
        }
        for folder in index.rglob("simple")
        if folder.parent != index
    }
    assert listed == {
        "x86_64": {"x86-64"},
        "x86-64-v2": {"x86-64", "x86-64-v2"},
        "x86-64-v3": {"x86-64", "x86-64-v2", "x86-64-v3"},
        "goldmont": {"x86-64", "x86-64-v2", "goldmont"},
        "sandybridge": {"x86-64", "x86-64-v2", "sandybridge"},
    }


def test_what_has_less_than_the_targets_own_cpu_is_in_an_index_of_its_own(dist: Path, index: Path) -> None:
    released(dist)
    released(dist, folder="rpi4/armv8-a", build="100_armv8_a")
    released(dist, folder="rpi4/cortex-a76", build="224_cortex_a76")
    build(dist, index)
    cpus = {file["_cpu"] for file in answer(index, "rpi4", "armv8-a", "simple", "quick")["files"]}
    assert cpus == {"armv8-a"}
    cpus = {file["_cpu"] for file in answer(index, "rpi4", "cortex-a76", "simple", "quick")["files"]}
    assert cpus == {"cortex-a72", "cortex-a76"}


# --- yanks -----------------------------------------------------------------------------------------------------------


def test_a_yank_stands_on_the_pages_with_its_reason_and_can_be_taken_back(dist: Path, index: Path) -> None:
    released(dist)
    released(dist, version="1.1")
    build(dist, index)
    before = state(index)
    reason = 'wrong "NumPy" <ABI> & worse \\ ä'
    new = yank(read_yanks(index), read_ledger(index), "Quick==1.0.0", reason)
    done = rewrite_index(index, CATALOG, new)
    assert set(done.written) == {
        "yanked.toml",
        *(f"{place}simple/quick/index.{kind}" for place in ("", "rpi4/") for kind in ("html", "v1_json")),
    }
    first, second = page(index, "simple", "quick")
    assert first["data-yanked"] == reason
    assert "data-yanked" not in second
    assert [file["yanked"] for file in answer(index, "simple", "quick")["files"]] == [reason, False]
    assert build(dist, index).written == ()
    rewrite_index(index, CATALOG, unyank(read_yanks(index), "Quick==1.0.0"))
    after = {path: data for path, (_, data) in state(index).items() if path != "yanked.toml"}
    assert after == {path: data for path, (_, data) in before.items()}


@pytest.mark.parametrize(
    "what", ["quick-1.0-cp311-cp311-linux_aarch64.whl", "rpi4/quick-1.0-cp311-cp311-linux_aarch64.whl"]
)
def test_one_file_can_be_yanked(dist: Path, index: Path, what: str) -> None:
    released(dist)
    released(dist, tag="cp39-cp39-linux_aarch64")
    build(dist, index)
    rewrite_index(index, CATALOG, yank(Yanks(), read_ledger(index), what, "no"))
    yanked = {file["filename"]: file["yanked"] for file in answer(index, "simple", "quick")["files"]}
    assert yanked == {"quick-1.0-cp311-cp311-linux_aarch64.whl": "no", "quick-1.0-cp39-cp39-linux_aarch64.whl": False}


@given(st.text(min_size=1, max_size=60).filter(lambda text: text.strip()))
def test_what_is_written_of_a_yank_is_read_again(reason: str) -> None:
    import tomllib

    try:
        yanks = Yanks(yanked=(Yank(what="quick==1.0", reason=reason),))
        text = yanks.text().decode()
    except (ValueError, UnicodeEncodeError):
        return  # control characters, surrogates
    assert Yanks.model_validate(tomllib.loads(text)) == yanks


@pytest.mark.parametrize(
    ("what", "reason", "says"),
    [
        ("quick==1.1", "no", "no such wheel"),
        ("nothing==1.1", "no", "no such wheel"),
        ("quick==1.0", " ", "has a reason"),
        ("quick==1.0", "two\nlines", "no reason of a yank"),
        ("../quick", "no", "no what of a yank"),
        ("quick==one", "no", "no such wheel"),
    ],
)
def test_a_yank_that_can_be_none(dist: Path, index: Path, what: str, reason: str, says: str) -> None:
    released(dist)
    build(dist, index)
    with pytest.raises(InputError, match=says):
        yank(Yanks(), read_ledger(index), what, reason)


def test_a_yank_of_what_is_not_there_stops_a_build_and_names_the_nearest(dist: Path, index: Path) -> None:
    released(dist)
    build(dist, index)
    (index / "yanked.toml").write_text('[[yanked]]\nwhat = "quik==1.0"\nreason = "no"\n')
    with pytest.raises(DataError, match="no wheel of this index") as told:
        build(dist, index)
    assert "quick==1.0" in told.value.why
    assert told.value.where == str(index / "yanked.toml")


def test_taking_back_what_is_not_yanked() -> None:
    with pytest.raises(InputError, match="not yanked"):
        unyank(Yanks(), "quick==1.0")


# --- the disk --------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_leaves_what_was_there(
    dist: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    released(dist)
    build(dist, index)
    before = state(index)
    released(dist, "more")

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(MachineError, match="no space left") as told:
            build(dist, index)
    assert "run the command again" in told.value.hint
    assert {path: value for path, value in state(index).items() if path in before} == before
    assert not list(index.rglob("*.partial"))
    assert index_module.build_index(index, dist, CATALOG).added


def test_where_nothing_can_enter_no_index_is_begun(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder of wheels"):
        build_index(tmp_path / "index", tmp_path / "nowhere", CATALOG)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [False, True])
def test_what_is_no_index_is_left_as_it_is(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "mine"
    if there:
        folder.mkdir()
    before = list(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="this is no index"):
        rewrite_index(folder, CATALOG)
    with pytest.raises(InputError, match="this is no index"):
        publish(folder, Folder(tmp_path / "there"), CATALOG)
    assert list(tmp_path.rglob("*")) == before
