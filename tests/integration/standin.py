"""A signed apt repository that a test makes itself, served on 127.0.0.1, and what a test runs against it.

Needs ``gpg``, ``apt-ftparchive`` (apt-utils) and ``dpkg-deb``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from crosswheel.building.debian.apt import run_lock
from crosswheel.building.debian.lock import Lock
from crosswheel.building.debian.roots import run_root
from crosswheel.building.job import Job, Settings
from crosswheel.planning.steps import LockStep, RootStep
from crosswheel.spec.sysroots import Archive, Suite

DATE = "20260101T000000Z"


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def send_head(self) -> Any:
        server = self.server
        assert isinstance(server, _Server)
        server.asked.append(self.path)
        return super().send_head()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))


@contextmanager
def served(folder: Path) -> Iterator[_Server]:
    """The folder on a port of its own; ``asked`` lists the paths that were asked for."""
    server = _Server(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Key:
    """A throw-away signing key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.env = {**os.environ, "GNUPGHOME": str(folder)}
        self._gpg("--passphrase", "", "--quick-generate-key", "stand-in@example.org", "ed25519", "sign", "never")

    def _gpg(self, *arguments: str) -> bytes:
        argv = ("gpg", "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", *arguments)
        return subprocess.run(argv, env=self.env, check=True, capture_output=True).stdout

    @property
    def fingerprint(self) -> str:
        lines = self._gpg("--list-keys", "--with-colons").decode().splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr:"))

    def export(self, place: Path, *, armor: bool = False) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(self._gpg(*(("--armor",) if armor else ()), "--export"))

    def sign(self, release: Path) -> None:
        release.with_name("InRelease").unlink(missing_ok=True)
        self._gpg("--output", str(release.with_name("InRelease")), "--clearsign", str(release))

    def sign_detached(self, release: Path) -> None:
        """As older archives are signed: ``Release.gpg`` beside ``Release``."""
        place = release.with_name("Release.gpg")
        place.unlink(missing_ok=True)
        self._gpg("--armor", "--output", str(place), "--detach-sign", str(release))

    def close(self) -> None:
        """Ends the agent that gpg started for this key alone."""
        subprocess.run(("gpgconf", "--kill", "gpg-agent"), env=self.env, check=True, capture_output=True)


def deb(pool: Path, name: str, files: Mapping[str, str | tuple[str, int]], **control: str) -> Path:
    """Makes a .deb for arm64. A file's text that begins with ``->`` makes a link; a mode may go with a text."""
    tree = pool / f".{name}"
    fields = {"Package": name, "Version": "1.0", "Architecture": "arm64", "Maintainer": "stand-in <a@example.org>"}
    postinst = control.pop("postinst", "")
    fields |= {key.replace("_", "-"): value for key, value in control.items()} | {"Description": "stand-in"}
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    if postinst:
        (tree / "DEBIAN/postinst").write_text(postinst)
        (tree / "DEBIAN/postinst").chmod(0o755)
    for path, value in files.items():
        text, mode = (value, 0o644) if isinstance(value, str) else value
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            (tree / path).symlink_to(text[2:])
        else:
            (tree / path).write_text(text)
            (tree / path).chmod(mode)
    place = pool / f"{name}_{fields['Version']}_{fields['Architecture']}.deb"
    subprocess.run(
        ("dpkg-deb", "--build", "--root-owner-group", "-Znone", str(tree), str(place)), check=True, capture_output=True
    )
    shutil.rmtree(tree)
    return place


class Repository:
    """An archive with the suite ``stable``, component ``main``, for arm64."""

    def __init__(self, folder: Path, key: Key) -> None:
        self.folder = folder
        self.key = key
        self.pool = folder / "pool/main"
        self.dist = folder / "dists/stable"
        self.packages = self.dist / "main/binary-arm64/Packages"
        self.pool.mkdir(parents=True)
        self.packages.parent.mkdir(parents=True)

    def publish(self, *, signed: bool = True) -> None:
        """Writes Packages, Release and InRelease for what is in the pool."""
        self.packages.write_bytes(self._ftparchive("packages", "pool"))
        self.release(signed=signed)

    def release(self, *, signed: bool = True, **fields: str) -> None:
        fields = {"Origin": "Stand-in", "Label": "Stand-in", "Suite": "stable", "Codename": "stable"} | fields
        fields |= {"Architectures": "arm64", "Components": "main"}
        options = [part for key, value in fields.items() for part in ("-o", f"APT::FTPArchive::Release::{key}={value}")]
        (self.dist / "InRelease").unlink(missing_ok=True)
        (self.dist / "Release").unlink(missing_ok=True)
        (self.dist / "Release").write_bytes(self._ftparchive(*options, "release", "dists/stable"))
        if signed:
            self.key.sign(self.dist / "Release")

    def _ftparchive(self, *arguments: str) -> bytes:
        return subprocess.run(("apt-ftparchive", *arguments), cwd=self.folder, check=True, capture_output=True).stdout


def fill(repository: Repository) -> None:
    """A program that needs a library, the library's development package, and a package with a dangling link."""
    pool = repository.pool
    awk = "#!/bin/sh\nupdate-alternatives --install /usr/bin/awk awk /usr/bin/hello 5\n"
    deb(pool, "hello", {"usr/bin/hello": ("hello\n", 0o4755)}, Depends="libdemo1 (>= 1.0)", postinst=awk)
    deb(pool, "libdemo1", {"lib/aarch64-linux-gnu/libdemo.so.1": "demo\n"}, Recommends="unwanted")
    deb(
        pool,
        "libdemo-dev",
        {
            "usr/lib/aarch64-linux-gnu/libdemo.so": "->/lib/aarch64-linux-gnu/libdemo.so.1",
            "usr/include/demo.h": "#define DEMO 1\n",
        },
        Depends="libdemo1",
        Version="1:2.0+b1",
    )
    deb(pool, "unwanted", {"usr/share/unwanted": "x\n"})
    deb(pool, "libbroken-dev", {"usr/lib/aarch64-linux-gnu/libbroken.so": "->libbroken.so.1"})
    repository.publish()


@dataclass
class Setup:
    """A repository, its server, and steps that are run against it in a store of their own."""

    base: Path
    repository: Repository
    server: _Server
    snapshots: Path
    snapshot_server: _Server
    store: Path = field(init=False)
    lines: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)
    count: int = 0

    def __post_init__(self) -> None:
        self.store = self.base / "store"

    @property
    def keyrings(self) -> Path:
        return self.base / "keyrings"

    @property
    def archives(self) -> dict[str, Archive]:
        archive = Archive(
            name="standin",
            label="Stand-in",
            keyring="standin.gpg",
            keyring_package="standin-keyring",
            snapshot=f"http://127.0.0.1:{self.snapshot_server.server_port}/{{date}}/",
            source="a test",
        )
        return {"standin": archive}

    def job(self) -> Job:
        self.count += 1
        folder = self.store / "tmp" / str(self.count)
        (folder / "out").mkdir(parents=True)
        (folder / "work").mkdir()
        defaults = {"apt_mirrors": {"standin": f"http://127.0.0.1:{self.server.server_port}"}}
        return Job(
            key=str(self.count),
            out=folder / "out",
            work=folder / "work",
            settings=Settings(store=self.store, **(defaults | self.settings)),
            log=self.lines.append,
            cancelled=self.cancelled,
        )

    def step(self, *packages: str, suite: str = "stable", pinned: str | None = None) -> LockStep:
        return LockStep(
            name="resolve a test",
            lock="a-test",
            architecture="arm64",
            suites=(Suite(archive="standin", name=suite),),
            packages=packages or ("hello", "libdemo-dev"),
            snapshot=DATE,
            pinned=pinned,
        )

    def lock(self, *packages: str, suite: str = "stable", pinned: str | None = None) -> Path:
        job = self.job()
        step = self.step(*packages, suite=suite, pinned=pinned)
        run_lock(step, {}, job, archives=self.archives, keyrings=self.keyrings)
        return job.out

    def root(self, lock: Path) -> Path:
        job = self.job()
        step = RootStep(name="assemble a test", inputs={"lock": self.step()})
        run_root(step, {"lock": lock}, job, archives=self.archives)
        return job.out

    def read(self, lock: Path) -> Lock:
        return Lock.parse((lock / "lock.json").read_text(), str(lock))

    def kept(self) -> Sequence[Path]:
        return sorted((self.store / "kept").glob("*"))
