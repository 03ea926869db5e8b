"""What is sent where: destinations as the command line has them, and what is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from index_writer import CATALOG, WHEN, released

from crosswheel.cli import doctor
from crosswheel.cli.publish import carrier_of
from crosswheel.errors import DataError, FetchError, InputError, MachineError
from crosswheel.publishing.carriers import Answer, Difference, failed, run
from crosswheel.publishing.index import build_index
from crosswheel.publishing.publish import publish
from crosswheel.publishing.to_folder import Folder
from crosswheel.publishing.to_rclone import Rclone
from crosswheel.publishing.to_rsync import Rsync

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that were asked for; none is looked for, and no certificates are named."""
    asked: list[str] = []
    monkeypatch.setattr(doctor, "prepare_for_publishing", lambda _settings, *names: asked.extend(names))
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    return asked


S3 = ("--s3-env-auth", "--s3-no-check-bucket")


@pytest.mark.parametrize(
    ("destination", "options", "expected", "needs"),
    [
        ("/srv/wheels", {}, Folder(Path("/srv/wheels")), []),
        ("/srv/a:b", {}, Folder(Path("/srv/a:b")), []),
        (
            "s3://b/x/",
            {},
            Rclone(remote=":s3:b/x", place="s3://b/x/", options=(*S3, "--s3-provider", "AWS")),
            ["rclone"],
        ),
        (
            "s3://b",
            {"endpoint": "http://h:1"},
            Rclone(
                remote=":s3:b", place="s3://b", options=(*S3, "--s3-provider", "Other", "--s3-endpoint", "http://h:1")
            ),
            ["rclone"],
        ),
        ("rclone:mine:x/y", {}, Rclone(remote="mine:x/y", place="rclone:mine:x/y"), ["rclone"]),
        ("me@host:wheels", {}, Rsync(to="me@host:wheels"), ["rsync", "ssh"]),
        ("host:/srv/our wheels", {}, Rsync(to="host:/srv/our wheels"), ["rsync", "ssh"]),
        ("ssh://me@host:2222/srv/w", {}, Rsync(to="me@host:/srv/w", port=2222), ["rsync", "ssh"]),
        ("ssh://[::1]/srv/w", {}, Rsync(to="[::1]:/srv/w"), ["rsync", "ssh"]),
        ("rsync://host/module/w", {}, Rsync(to="rsync://host/module/w"), ["rsync"]),
    ],
)
def test_a_destination(
    destination: str, options: dict[str, str], expected: object, needs: list[str], programs: list[str], tmp_path: Path
) -> None:
    assert carrier_of(destination, folder=tmp_path, **options) == expected
    assert programs == needs


@pytest.mark.parametrize(
    ("destination", "options", "says"),
    [
        ("s3://", {}, "names no bucket"),
        ("s3:bucket", {}, "names no bucket"),
        ("rclone:remote", {}, "names no remote"),
        ("ssh://host", {}, "no host and folder"),
        ("ssh://host:port/x", {}, "no URL"),
        ("/srv/wheels", {"endpoint": "http://h"}, "only a bucket"),
        ("host:x", {"endpoint": "http://h"}, "only a bucket"),
        ("s3://b", {"config": "x"}, "only what goes over ssh"),
        ("host:x", {"config": "/nowhere"}, "no such file"),
        (__file__, {}, "no folder"),
    ],
)
def test_what_is_no_destination(destination: str, options: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        carrier_of(destination, folder=tmp_path, **options)


@pytest.mark.parametrize("to", ["index", "index/below", ".", "link"])
def test_an_index_is_not_published_into_itself(to: str, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "index")
    with pytest.raises(InputError, match="into itself"):
        carrier_of(str(tmp_path / to), folder=tmp_path / "index")


def test_certificates_that_amazons_tools_are_told_of_are_told_to_rclone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ca.pem")
    carrier = carrier_of("s3://b", folder=Path("x"))
    assert isinstance(carrier, Rclone)
    assert carrier.certificates == "/etc/ca.pem"


# --- a folder --------------------------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path) -> Path:
    released(tmp_path / "dist")
    build_index(tmp_path / "index", tmp_path / "dist", CATALOG, when=WHEN)
    return tmp_path / "index"


def test_what_is_sent_is_read_back_as_an_index(index: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    publish(index, Folder(to), CATALOG)
    assert build_index(to, tmp_path / "dist", CATALOG).written == ()
    assert publish(index, Folder(to), CATALOG).sent == ()


def test_folders_that_go_with_it_and_those_that_do_not(index: Path, tmp_path: Path) -> None:
    for name in ("page", "other"):
        (index / name).mkdir()
        (index / name / "index.html").write_text(name)
    done = publish(index, Folder(tmp_path / "to"), CATALOG, also=["page"])
    assert (tmp_path / "to" / "page" / "index.html").read_text() == "page"
    assert not (tmp_path / "to" / "other").exists()
    assert len(done.notes) == 1
    assert "other/" in done.notes[0]
    assert "page/" not in done.notes[0]
    assert done.sent.index("page/index.html") > done.sent.index("simple/index.html")


def test_the_signature_of_a_former_statement_goes(index: Path, tmp_path: Path) -> None:
    wheel = next((tmp_path / "dist" / "rpi4").glob("*.whl"))
    statement, signature = (wheel.with_name(wheel.name + ending) for ending in (".intoto.json", ".intoto.jsonl"))
    statement.write_text("one")
    signature.write_text("of one")
    build_index(index, tmp_path / "dist", CATALOG)
    publish(index, Folder(tmp_path / "to"), CATALOG)
    there = tmp_path / "to" / "wheels" / "rpi4" / signature.name
    assert there.is_file()
    statement.write_text("two")
    signature.unlink()
    build_index(index, tmp_path / "dist", CATALOG)
    done = publish(index, Folder(tmp_path / "to"), CATALOG)
    assert f"wheels/rpi4/{signature.name}" in done.removed
    assert not there.exists()


@pytest.mark.parametrize("also", ["nothing", "..", "../dist", "releases.json"])
def test_what_cannot_go_with_it(index: Path, tmp_path: Path, also: str) -> None:
    with pytest.raises(InputError, match="no folder in the index"):
        publish(index, Folder(tmp_path / "to"), CATALOG, also=[also])
    assert not (tmp_path / "to").exists()


def test_a_list_of_wheels_there_that_cannot_be_read(index: Path, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "releases.json").write_text("<html>")
    with pytest.raises(DataError, match="cannot be read") as told:
        publish(index, Folder(tmp_path / "to"), CATALOG)
    assert told.value.where == f"{tmp_path / 'to'}/releases.json"


def test_wheels_that_are_published_and_not_here_stay_on_the_pages_unless_it_is_said(
    index: Path, tmp_path: Path
) -> None:
    to = tmp_path / "to"
    publish(index, Folder(to), CATALOG)
    released(tmp_path / "less", "other")
    build_index(tmp_path / "small", tmp_path / "less", CATALOG, when=WHEN)
    with pytest.raises(InputError, match=r"not in this index \(how many: 1\)") as told:
        publish(tmp_path / "small", Folder(to), CATALOG)
    assert "rpi4/quick-1.0" in told.value.why
    assert not (to / "simple" / "other").exists()
    publish(tmp_path / "small", Folder(to), CATALOG, drop=True)
    assert "quick" not in (to / "simple" / "index.html").read_text()
    assert not (to / "simple" / "quick" / "index.html").exists()
    assert list((to / "wheels" / "rpi4").glob("quick*.whl")), "the wheel itself stays"


def test_a_wheel_that_is_there_without_a_list_is_compared(index: Path, tmp_path: Path) -> None:
    wheel = next((index / "wheels" / "rpi4").glob("*.whl"))
    there = tmp_path / "to" / "wheels" / "rpi4" / wheel.name
    there.parent.mkdir(parents=True)
    there.write_bytes(b"another")
    with pytest.raises(InputError, match="other wheels are published here"):
        publish(index, Folder(tmp_path / "to"), CATALOG)
    assert there.read_bytes() == b"another"
    assert [path for path in (tmp_path / "to").rglob("*") if path.is_file()] == [there]


def test_no_file_goes_before_one_that_it_leads_to(index: Path) -> None:
    """Whatever the carrier does with one call, the stages are sent one after the other."""
    calls: list[list[str]] = []

    class Noting:
        place = "nowhere"

        def read(self, path: str) -> None: ...

        def compare(self, source: Path, paths: list[str]) -> Difference:
            return Difference(missing=frozenset(paths), changed=frozenset())

        def send(self, source: Path, paths: list[str]) -> None:
            calls.append(list(paths))

        def remove(self, paths: list[str]) -> None: ...

    publish(index, Noting(), CATALOG)
    kinds = [{Path(path).suffix if path.startswith("wheels") else path.count("/") for path in call} for call in calls]
    assert kinds == [{".whl"}, {".metadata", ".json"}, {2, 3}, {1, 2}, {0}]


# --- tools -----------------------------------------------------------------------------------------------------------


def test_a_tool_that_is_not_there() -> None:
    with pytest.raises(MachineError, match="no-such-tool"):
        run(["no-such-tool"])


def test_what_a_tool_said_is_told_with_its_command_line() -> None:
    error = failed(["rsync", "a b"], Answer(status=11, out=b"", err="one\n\ntwo\n"), "there")
    assert isinstance(error, FetchError)
    assert error.why == "one\ntwo\n$ rsync 'a b'\nexit status 11"


@pytest.mark.parametrize("said", ["write failed: No space left on device (28)", "Disk quota exceeded"])
def test_a_full_disk_on_the_other_side_is_told_as_such(said: str) -> None:
    assert isinstance(failed(["rsync"], Answer(status=11, out=b"", err=f"rsync: {said}\n"), "there"), MachineError)
