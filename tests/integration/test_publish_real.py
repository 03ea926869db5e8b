"""An index is published: to a folder, over ssh by rsync, to an S3-like bucket by rclone; killed, and on a full disk."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin

import pytest
from commandline import CommandLine
from index_writer import CATALOG, WHEN, released
from serving import served

from crosswheel.building.machine import Machine
from crosswheel.building.machine.provide import install
from crosswheel.cli.publish import carrier_of
from crosswheel.cli.settings import read_settings
from crosswheel.digest import sha256_bytes, sha256_file
from crosswheel.errors import InputError, MachineError
from crosswheel.publishing.carriers import Carrier
from crosswheel.publishing.index import build_index
from crosswheel.publishing.publish import Published, publish

pytestmark = pytest.mark.integration


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place to publish to. ``get`` gives a file there, None where it is not there; ``files`` are all paths there."""

    to: str
    get: Callable[[str], bytes | None]
    files: Callable[[], set[str]]
    options: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """As the command line has it."""
        return self.to, *(word for name, value in self.options.items() for word in (f"--{name}", value))

    @property
    def carrier(self) -> Carrier:
        endpoint, config = self.options.get("endpoint"), self.options.get("ssh-config")
        return carrier_of(self.to, folder=Path("elsewhere"), endpoint=endpoint, config=config)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def until_open(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while True:
        assert process.poll() is None, f"{process.args} ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"{process.args} does not listen"
            time.sleep(0.1)


def in_folder(root: Path) -> dict[str, Callable[..., object]]:
    def get(path: str) -> bytes | None:
        return (root / path).read_bytes() if (root / path).is_file() else None

    def files() -> set[str]:
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    return {"get": get, "files": files}


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    root = tmp_path / "published to"
    return Place(to=str(root), **in_folder(root))  # type: ignore[arg-type]


@contextmanager
def starting_nothing() -> Iterator[None]:
    """Packages that are installed meanwhile start no daemon (Debian's invoke-rc.d(8) asks this file)."""
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            policy.unlink()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of an ssh server of this test alone, and a configuration with throw-away keys that leads to it."""
    machine = Machine.here(read_settings().store, os.environ)
    daemon = machine.find("sshd")
    if daemon is None:
        if not machine.may_install or Path("/run/systemd/system").is_dir():
            pytest.skip("no sshd; installing it would open this machine")
        with starting_nothing():
            install(machine, ["openssh-server"], say=print)
        daemon = machine.find("sshd")
    root = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name], check=True)
    port = free_port()
    allowed = root / "allowed"
    allowed.write_bytes((root / "user.pub").read_bytes())
    allowed.chmod(0o600)
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": root / "host",
        "AuthorizedKeysFile": allowed,
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no" if os.getuid() else "yes",  # without it, sshd refuses an account that has no password
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
    }
    (root / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    host = (root / "host.pub").read_text().split()
    (root / "known").write_text(f"[127.0.0.1]:{port} {host[0]} {host[1]}\n")
    shared = f"ControlMaster auto\nControlPath {root}/%C\nControlPersist 5\n"  # one connection serves a test's rsyncs
    who = f"IdentityFile {root / 'user'}\nIdentitiesOnly yes\nUserKnownHostsFile {root / 'known'}\n"
    (root / "config").write_text(f"{shared}{who}Host published\nHostName 127.0.0.1\nPort {port}\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with subprocess.Popen(
        [str(daemon), "-D", "-e", "-f", str(root / "sshd_config")], stderr=subprocess.PIPE
    ) as process:
        try:
            until_open(port, process)
            yield port, root / "config"
        finally:
            process.terminate()


@pytest.fixture
def rsync(sshd: tuple[int, Path], tmp_path: Path) -> Place:
    root = tmp_path / "published to"
    return Place(to=f"published:{root}", options={"ssh-config": str(sshd[1])}, **in_folder(root))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an S3-like server of this test alone."""
    port = free_port()
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    server = Path(sys.executable).with_name("moto_server")
    with subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log) as process:
        try:
            until_open(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of it, whose credentials are in the environment."""
    import boto3

    for name, value in (("ACCESS_KEY_ID", "one"), ("SECRET_ACCESS_KEY", "two"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    return boto3.client("s3", endpoint_url=moto)


@pytest.fixture
def bucket(moto: str, s3: Any, tmp_path: Path) -> Place:
    """A bucket of this test alone."""
    name = re.sub("[^a-z0-9]+", "-", tmp_path.name.lower()).strip("-")
    s3.create_bucket(Bucket=name)

    def get(path: str) -> bytes | None:
        try:
            answer: bytes = s3.get_object(Bucket=name, Key=f"wheels of ours/{path}")["Body"].read()
        except s3.exceptions.NoSuchKey:
            return None
        return answer

    def files() -> set[str]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=name)
        return {each["Key"].partition("/")[2] for page in pages for each in page.get("Contents", ())}

    return Place(to=f"s3://{name}/wheels of ours", options={"endpoint": moto}, get=get, files=files)


@pytest.fixture(params=["folder", "rsync", "bucket"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return tmp_path / "dist"


@pytest.fixture
def index(dist: Path, tmp_path: Path) -> Path:
    """An index of two wheels of two targets."""
    released(dist, "quick", "1.0+cpu")
    released(dist, "quick", "1.0", folder="rk3588", content=b"x = 1\n")
    build_index(tmp_path / "index", dist, CATALOG, when=WHEN)
    return tmp_path / "index"


def pages(place: Place) -> list[str]:
    return sorted(path for path in place.files() if path.endswith("/index.html"))


def whole(place: Place) -> set[str]:
    """Every link of every page leads to the bytes that it says; the wheels that are listed."""
    from html.parser import HTMLParser

    found: set[str] = set()
    links: list[tuple[str, str]] = []

    class Anchors(HTMLParser):
        here = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "a":
                links.append((self.here, dict(attrs)["href"] or ""))

    for path in pages(place):
        parser = Anchors()
        parser.here = path
        parser.feed((place.get(path) or b"").decode())
    for here, href in links:
        url, fragment = urldefrag(urljoin(f"http://x/{here}", href))
        path = urllib.request.url2pathname(url.removeprefix("http://x/"))
        if fragment:
            content = place.get(path)
            assert content is not None, f"{here} leads to {path}, which is not there"
            assert fragment == f"sha256={sha256_bytes(content)}"
            assert place.get(f"{path}.metadata") is not None
            found.add(path)
        else:
            assert place.get(f"{path}index.html") is not None
    return found


def everything(index: Path) -> set[str]:
    kept = (path.relative_to(index).as_posix() for path in index.rglob("*") if path.is_file())
    return {path for path in kept if path != ".lock"}


def published(place: Place, index: Path, *, drop: bool = False) -> Published:
    return publish(index, place.carrier, CATALOG, drop=drop)


def refused(place: Place, index: Path, says: str) -> InputError:
    with pytest.raises(InputError, match=says) as told:
        published(place, index)
    return told.value


# --- everywhere ------------------------------------------------------------------------------------------------------


def test_an_index_is_there_as_it_is_here_and_only_what_is_new_is_sent(place: Place, index: Path, dist: Path) -> None:
    first = published(place, index)
    assert set(first.sent) == everything(index) == place.files()
    assert first.same == 0
    for path in everything(index):
        assert place.get(path) == (index / path).read_bytes()
    assert len(whole(place)) == 2
    order = [path.rpartition(".")[2] if path.startswith("wheels/") else path for path in first.sent]
    assert order[:2] == ["whl", "whl"]
    assert order[-1] == "releases.json"
    assert order.index("simple/index.html") > order.index("simple/quick/index.html") > order.index("metadata")

    again = published(place, index)
    assert again.sent == ()
    assert again.same == len(everything(index))

    released(dist, "later")
    build_index(index, dist, CATALOG, when=WHEN)
    third = published(place, index)
    wheel = "wheels/rpi4/later-1.0-cp311-cp311-linux_aarch64.whl"
    assert set(third.sent) == {
        *(wheel, f"{wheel}.metadata", f"{wheel}.proof.json", "releases.json"),
        *(f"{top}simple/{name}index.{kind}" for top in ("", "rpi4/") for name in ("", "later/") for kind in KINDS),
    }
    assert len(whole(place)) == 3


KINDS = ("html", "v1_json")


def test_another_wheel_of_a_name_that_is_published_is_refused_and_nothing_is_sent(
    place: Place, index: Path, dist: Path, tmp_path: Path
) -> None:
    published(place, index)
    before = {path: place.get(path) for path in place.files()}
    wheel = released(dist, "quick", "1.0+cpu", content=b"another = 1\n")
    released(dist, "more")
    build_index(tmp_path / "other", dist, CATALOG, when=WHEN)
    told = refused(place, tmp_path / "other", "other wheels are published here under names of this index")
    assert wheel.name in told.why
    assert {path: place.get(path) for path in place.files()} == before


def test_wheels_that_are_published_and_not_here_are_not_taken_off_unless_it_is_said(
    place: Place, index: Path, tmp_path: Path
) -> None:
    published(place, index)
    released(tmp_path / "fewer", "quick", "1.0+cpu")
    build_index(tmp_path / "small", tmp_path / "fewer", CATALOG, when=WHEN)
    told = refused(place, tmp_path / "small", "published here that are not in this index")
    assert "--drop" in told.hint
    assert len(whole(place)) == 2
    answer = published(place, tmp_path / "small", drop=True)
    assert set(answer.removed) == {f"rk3588/simple/{name}index.{kind}" for name in ("", "quick/") for kind in KINDS}
    assert len(whole(place)) == 1
    assert pages(place) == sorted(path for path in everything(tmp_path / "small") if path.endswith("index.html"))


def test_one_that_is_killed_leaves_the_old_index_whole_and_the_next_goes_on(
    place: Place, index: Path, dist: Path
) -> None:
    published(place, index)
    for number in range(12):
        released(dist, f"big{number}", content=os.urandom(3 * 2**20))
    released(dist, "quick", "2.0")
    build_index(index, dist, CATALOG, when=WHEN)
    process = CommandLine().start("publish", index, *place.words, start_new_session=True)
    end = time.monotonic() + 60
    while not any(path.startswith("wheels/rpi4/big") for path in place.files()):
        assert process.poll() is None, "it was too quick to be killed"
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    time.sleep(0.5)  # the other side of rsync notices
    there = sum(path.endswith(".whl") for path in place.files())
    assert 3 <= there < 15, "it was killed at work"
    assert len(whole(place)) == 2, "the old index"
    answer = published(place, index)
    sent = [path for path in answer.sent if path.endswith(".whl")]
    assert len(sent) == 15 - there, "what is there is not sent again"
    assert len(whole(place)) == 15
    assert place.files() == everything(index), "no half file stays"


def test_an_index_that_is_not_whole_is_not_published(folder: Place, index: Path) -> None:
    page = index / "simple" / "quick" / "index.html"
    page.write_text(page.read_text().replace("Wheels of quick", "Wheels of nobody"))
    assert "./x index build" in refused(folder, index, "not as its wheels want them").hint
    assert folder.files() == set()


# --- one way ---------------------------------------------------------------------------------------------------------


def test_pip_installs_from_what_was_published(folder: Place, index: Path, tmp_path: Path) -> None:
    published(folder, index)
    with served(Path(folder.to)) as (url, _):
        words = ("--index-url", f"{url}/rk3588/simple", "--platform", "linux_aarch64", "--python-version", "3.11")
        only = ("--only-binary", ":all:", "--dest", tmp_path / "got", "--no-cache-dir", "quick")
        argv = [sys.executable, "-m", "pip", "download", *words, *only]
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (got,) = (tmp_path / "got").iterdir()
    assert sha256_file(got) == sha256_file(index / "wheels" / "rk3588" / got.name)


def test_a_bucket_gives_pages_with_their_types(bucket: Place, index: Path, s3: Any) -> None:
    published(bucket, index)
    name = bucket.to.removeprefix("s3://").partition("/")[0]
    types = {}
    for path in ("simple/quick/index.html", "simple/quick/index.v1_json", "releases.json"):
        head = s3.head_object(Bucket=name, Key=f"wheels of ours/{path}")
        types[path] = (head["ContentType"], head["CacheControl"])
    assert types == {
        "simple/quick/index.html": ("text/html; charset=utf-8", "no-cache"),
        "simple/quick/index.v1_json": ("application/vnd.pypi.simple.v1+json", "no-cache"),
        "releases.json": ("application/json", "no-cache"),
    }


def test_a_url_of_ssh_with_a_port(sshd: tuple[int, Path], index: Path, tmp_path: Path) -> None:
    port, config = sshd
    to = tmp_path / "there"
    answer = CommandLine().json("publish", index, f"ssh://127.0.0.1:{port}{to}", "--ssh-config", config)
    assert len(answer["sent"]) == len(everything(to)) == len(everything(index))


@pytest.mark.parametrize(
    ("words", "env", "says"),
    [
        (
            ("s3://nobodys-bucket/x", "--endpoint", "http://127.0.0.1:9"),
            {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
            "could not be published",
        ),
        (("ssh://127.0.0.1:9/x",), {}, "could not be published"),
    ],
    ids=["bucket", "ssh"],
)
def test_a_place_that_cannot_be_reached(index: Path, words: tuple[str, ...], env: dict[str, str], says: str) -> None:
    done = CommandLine(env=env)("publish", index, *words)
    assert done.returncode == 3, done.stderr
    assert says in done.stderr
    assert "publish again" in done.stderr


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    place = tmp_path / "small disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("way", ["folder", "rsync"])
def test_a_full_disk_in_mid_publish(
    way: str, small: Path, index: Path, dist: Path, request: pytest.FixtureRequest
) -> None:
    root = small / "published"
    place = Place(to=str(root), **in_folder(root))  # type: ignore[arg-type]
    if way == "rsync":
        config = str(request.getfixturevalue("sshd")[1])
        place = replace(place, to=f"published:{root}", options={"ssh-config": config})
    published(place, index)
    before = json.loads(place.get("releases.json") or b"")
    for number in range(5):
        released(dist, f"big{number}", content=os.urandom(3 * 2**20))
    build_index(index, dist, CATALOG, when=WHEN)
    with pytest.raises(MachineError, match="no space left") as told:
        published(place, index)
    assert "again" in told.value.hint
    assert len(whole(place)) == 2
    assert json.loads(place.get("releases.json") or b"") == before
    assert not [path for path in place.files() if path.rpartition("/")[2].startswith(".")], "no half file stays"
    subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
    published(place, index)
    assert len(whole(place)) == 7


def test_a_full_disk_in_mid_build_of_an_index(small: Path, dist: Path) -> None:
    index = small / "index"
    place = Place(to=str(index), **in_folder(index))  # type: ignore[arg-type]
    released(dist, "quick")
    build_index(index, dist, CATALOG, when=WHEN)
    for number in range(5):
        released(dist, f"big{number}", content=os.urandom(3 * 2**20))
    with pytest.raises(MachineError, match="no space left"):
        build_index(index, dist, CATALOG, when=WHEN)
    assert len(whole(place)) == 1
    subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
    build_index(index, dist, CATALOG, when=WHEN)
    assert len(whole(place)) == 6
