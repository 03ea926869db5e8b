"""The lines that install: they take our wheel and nobody else's, and bring what it requires."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from page_writer import CATALOG, URL, line, night, page, wheel

from crosswheel.errors import InputError
from crosswheel.publishing.history import read_history
from crosswheel.publishing.index import build_index
from crosswheel.publishing.page.cells import Cell, cells_of
from crosswheel.publishing.page.install import Install, Installer, index_base
from crosswheel.publishing.page.wheels import read_shelf

pytestmark = pytest.mark.unit

RUNTIME = {"h5py": {"debian-12": ("libhdf5-103-1",)}}


def lines(dist: Path, url: str = URL) -> dict[str, Install]:
    """The lines of all wheels, by recipe and version."""
    cells = cells_of(read_history(dist / "no-history"), read_shelf(dist), CATALOG)
    installer = Installer(base=url, cells=cells, runtime=RUNTIME)
    return {_name(cell): how for cell in cells if (how := installer.of(cell))}


def _name(cell: Cell) -> str:
    return f"{cell.recipe} {cell.version}{f' {cell.cpu}' if cell.cpu else ''}"


def test_a_wheel_that_requires_nothing_comes_from_its_targets_index_alone(tmp_path: Path) -> None:
    wheel(tmp_path, "wrapt", "1.16.0")
    how = lines(tmp_path)["wrapt 1.16.0"]
    assert how.line == f"python3.11 -m pip install --index-url {URL}/rpi4/simple/ wrapt==1.16.0"
    assert how.missing == ()
    assert how.system == ""


def test_what_the_index_lacks_comes_in_a_second_call_that_cannot_replace_the_wheel(tmp_path: Path) -> None:
    wheel(tmp_path, "dm_tree", "0.1.5", requires=["six", "absl-py; python_version<'3'"])
    how = lines(tmp_path)["dm-tree 0.1.5"]
    first, _, second = how.line.partition(" && ")
    assert "--no-deps" in first
    assert f"--index-url {URL}/rpi4/simple/" in first
    assert second == "python3.11 -m pip install dm-tree==0.1.5"
    assert "--extra-index-url" not in how.line
    assert how.missing == ("six",)
    assert any("six" in said for said in how.said)


def test_what_the_index_has_is_pinned_beside_the_wheel(tmp_path: Path) -> None:
    wheel(tmp_path, "tensorflow", "1.5.0", requires=["numpy>=1.12", "six"])
    wheel(tmp_path, "numpy", "1.16.6")
    wheel(tmp_path, "numpy", "1.11.0")
    wheel(tmp_path, "numpy", "1.26.4", target="rk3588")
    first = lines(tmp_path)["tensorflow 1.5.0"].line.partition(" && ")[0]
    assert shlex.split(first)[-2:] == ["tensorflow==1.5.0", "numpy==1.16.6"]


def test_a_wheel_all_of_whose_needs_are_in_the_index_takes_one_call(tmp_path: Path) -> None:
    wheel(tmp_path, "h5py", "3.11.0", requires=["numpy>=1.17"])
    wheel(tmp_path, "numpy", "1.26.4")
    how = lines(tmp_path)["h5py 3.11.0"]
    assert how.line == f"python3.11 -m pip install --index-url {URL}/rpi4/simple/ h5py==3.11.0"
    assert how.system == "sudo apt-get install libhdf5-103-1"


def test_needs_of_needs_count_and_a_circle_ends(tmp_path: Path) -> None:
    wheel(tmp_path, "one", "1.0", requires=["two"])
    wheel(tmp_path, "two", "1.0", requires=["one", "three"])
    found = lines(tmp_path)
    assert found["one 1.0"].missing == ("three",)
    assert found["two 1.0"].missing == ("three",)


def test_a_version_with_a_local_sibling_is_asked_for_exactly(tmp_path: Path) -> None:
    wheel(tmp_path, "cuda_check", "1.0.0")
    wheel(tmp_path, "cuda_check", "1.0.0+meson")
    found = lines(tmp_path)
    assert "cuda-check===1.0.0" in found["cuda-check 1.0.0"].line
    assert "cuda-check==1.0.0+meson" in found["cuda-check 1.0.0+meson"].line


def test_a_wheel_for_another_processor_comes_from_that_ones_index(tmp_path: Path) -> None:
    wheel(tmp_path, "wrapt", "1.16.0", target="x86_64", cpu="x86-64-v2", tag="2_x86_64_v2")
    how = lines(tmp_path)["wrapt 1.16.0 x86-64-v2"]
    assert f"--index-url {URL}/x86_64/x86-64-v2/simple/" in how.line


def test_the_very_file_is_named_with_its_sha256(tmp_path: Path) -> None:
    made = wheel(tmp_path, "wrapt", "1.16.0")
    how = lines(tmp_path)["wrapt 1.16.0"]
    assert shlex.split(how.exact)[-1].startswith(f"{URL}/wheels/rpi4/{made.name}#sha256=")


def test_without_an_address_the_file_is_installed_that_was_copied(tmp_path: Path) -> None:
    made = wheel(tmp_path, "wrapt", "1.16.0")
    how = lines(tmp_path, "")["wrapt 1.16.0"]
    assert how.line == f"python3.11 -m pip install ./{made.name}"
    assert "Copy the wheel" in how.said[0]


def test_an_index_without_https_is_trusted_by_name_and_told_of(tmp_path: Path) -> None:
    wheel(tmp_path, "wrapt", "1.16.0")
    how = lines(tmp_path, "http://board.lan:8080/cw")["wrapt 1.16.0"]
    assert "--trusted-host board.lan " in how.line
    assert any("without https" in said for said in how.said)
    assert "--trusted-host" not in lines(tmp_path, "http://localhost:8080")["wrapt 1.16.0"].line


def test_a_wheel_that_is_not_the_proved_one_has_no_line(tmp_path: Path) -> None:
    made = wheel(tmp_path, "wrapt", "1.16.0")
    data = bytearray(made.read_bytes())
    data[40] ^= 1
    made.write_bytes(data)
    assert lines(tmp_path) == {}
    failing = [{"rule": "tag", "severity": "fail", "subject": "x", "message": "m", "hint": ""}]
    wheel(tmp_path, "numpy", "1.26.4", told={"findings": failing})
    gone = wheel(tmp_path, "h5py", "3.11.0")
    gone.unlink()
    assert lines(tmp_path) == {}


def test_of_an_index_only_what_it_lists_and_nobody_yanked_is_offered(tmp_path: Path) -> None:
    dist, index = tmp_path / "dist", tmp_path / "index"
    for name in ("wrapt", "numpy"):
        wheel(dist, name, "1.0")
    build_index(index, dist, CATALOG)
    assert set(lines(index)) == {"wrapt 1.0", "numpy 1.0"}
    (index / "yanked.toml").write_text('[[yanked]]\nwhat = "numpy==1.0"\nreason = "wrong ABI"\n')
    assert set(lines(index)) == {"wrapt 1.0"}
    wheel(index / "wheels", "h5py", "3.0")
    assert set(lines(index)) == {"wrapt 1.0"}
    cells = cells_of(read_history(tmp_path), read_shelf(index), CATALOG)
    notes = {cell.recipe: " ".join(cell.notes) for cell in cells}
    assert "wrong ABI" in notes["numpy"]
    assert "does not list it" in notes["h5py"]


@pytest.mark.parametrize("url", ["https://a.example/x/", "http://[::1]:80", "file:///srv/index"])
def test_an_address_is_taken_without_its_last_slash(url: str) -> None:
    assert index_base(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a/b",
        "a.example/x",
        "https://",
        "https://me:secret@a.example",
        "https://a/?x=1",
        "https://a/#b",
        "https://a/'b",
        "https://a b",
        "https://[x",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        index_base(url)
    assert caught.value.where == "--index-url"


def test_every_line_is_one_command_that_a_shell_reads_as_meant(tmp_path: Path) -> None:
    dist, history = tmp_path / "dist", tmp_path / "history"
    wheel(dist, "wrapt", "1.16.0", build={"recipe": "$(touch /tmp/x)`id`"})
    night(history, 0, [line("wrapt-1.16.0@rpi4+cp311")])
    page(tmp_path / "page", dist, history)
    for how in lines(dist).values():
        assert shlex.split(how.line)[:4] == ["python3.11", "-m", "pip", "install"]
        assert "$" not in how.line
        assert "`" not in how.line
