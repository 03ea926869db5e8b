"""A JetPack-shaped sysroot from nothing: a distribution's development packages and CUDA's cross packages, from two
signed archives at a server of this process.

NVIDIA's and Ubuntu's archives are stood in for. The distribution's packages are Debian 12's own for arm64, in a suite.
The cross packages have the names and the layout of CUDA 8.0's, in a flat archive, with :data:`MEGABYTES` each that no
compressor makes smaller. Cold means an empty store, no lists, no packages, and a key that has to be fetched; only the
disk's cache is warm. Each run does it anew, and the median counts.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, spread, unmeasured
from benchmarks.stored import made
from crosswheel.building.debian.apt import run_lock
from crosswheel.building.debian.debs import deb_path
from crosswheel.building.debian.lock import Lock
from crosswheel.building.debian.roots import run_root
from crosswheel.building.job import Job, Settings
from crosswheel.cli.settings import DATA
from crosswheel.planning.roots import sysroot_step
from crosswheel.planning.steps import LockStep, RootStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sysroots import Archive, ArchiveKey, Suite

CROSS = ("cudart", "cublas", "cufft", "curand", "cusolver", "cusparse", "npp", "nvgraph", "nvrtc", "misc-headers")
"""The cross packages of CUDA 8.0 that a build of TensorFlow wants, without what stands around their names."""

MEGABYTES = 12
"""Of each of them: as much as takes a whole JetPack's part of CUDA to some 120 MB."""

_TOP = "usr/local/cuda-8.0/targets/aarch64-linux"
_NEEDED = ("gpg", "apt-ftparchive", "dpkg-deb")
_SNAPSHOT = "20260101T000000Z"


def measure(settings: Settings, runs: int = 3) -> list[Row]:
    """Seconds and megabytes. Where the tools that make the stand-in are not here, the row says so."""
    lacking = [name for name in _NEEDED if not shutil.which(name)]
    if lacking:
        why = f"{', '.join(lacking)} missing: apt-get install gpg gpg-agent apt-utils dpkg"
        return [unmeasured("JetPack-shaped sysroot, cold", why)]
    root = sysroot_step(Catalog(DATA), "debian-12", "aarch64")
    distribution = made([root], Catalog(DATA), settings)[root.key]
    lock = Lock.parse((distribution / ".crosswheel/lock.json").read_text(), root.name)
    with tempfile.TemporaryDirectory(prefix="cw-jetpack-") as name, _key(Path(name) / "gnupg") as environment:
        folder = Path(name)
        _distribution(folder / "www/distribution", lock, settings.store, environment)
        _cuda(folder / "www/cuda", environment)
        fingerprint = _publish_key(folder / "www/key.pub", environment)
        with _served(folder / "www") as server:
            url = f"http://127.0.0.1:{server.server_port}/"
            taken = [_cold(folder / f"store-{n}", url, fingerprint, lock.requested, server) for n in range(runs)]
    seconds = [lock + root for lock, root, _ in taken]
    what = (
        f"{len(lock.requested)} packages of Debian 12 arm64 and what they need, {len(CROSS)} of CUDA; {spread(seconds)}"
    )
    return [
        Row(name="JetPack-shaped sysroot, cold", value=statistics.median(seconds), unit="s", note=what),
        Row(name="  of it resolving two archives", value=statistics.median(lock for lock, _, _ in taken), unit="s"),
        Row(name="  fetched", value=taken[0][2] / 1e6, unit="MB"),
    ]


# --- the stand-in ----------------------------------------------------------------------------------------------------


@contextmanager
def _key(folder: Path) -> Iterator[dict[str, str]]:
    """A throw-away signing key: the environment in which gpg has it."""
    folder.mkdir(mode=0o700)
    environment = {**os.environ, "GNUPGHOME": str(folder)}
    _gpg(environment, "--passphrase", "", "--quick-generate-key", "stand-in@example.org", "ed25519", "sign", "never")
    try:
        yield environment
    finally:
        subprocess.run(("gpgconf", "--kill", "gpg-agent"), env=environment, check=True, capture_output=True)


def _gpg(environment: dict[str, str], *arguments: str) -> bytes:
    argv = ("gpg", "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", *arguments)
    return subprocess.run(argv, env=environment, check=True, capture_output=True).stdout


def _publish_key(place: Path, environment: dict[str, str]) -> str:
    place.write_bytes(_gpg(environment, "--armor", "--export"))
    lines = _gpg(environment, "--list-keys", "--with-colons").decode().splitlines()
    return next(line.split(":")[9] for line in lines if line.startswith("fpr:"))


def _ftparchive(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(("apt-ftparchive", *arguments), cwd=folder, check=True, capture_output=True).stdout


def _sign(folder: Path, environment: dict[str, str], *options: str) -> None:
    (folder / "Release").write_bytes(_ftparchive(folder, *options, "release", "."))
    _gpg(environment, "--output", str(folder / "InRelease"), "--clearsign", str(folder / "Release"))


def _distribution(folder: Path, lock: Lock, store: Path, environment: dict[str, str]) -> None:
    """The packages of a lock, in the suite ``stable``."""
    index = folder / "dists/stable/main/binary-arm64"
    index.mkdir(parents=True)
    (folder / "pool").mkdir()
    for package in lock.packages:
        name = f"{package.package}_{package.version.replace(':', '%3a')}_{package.architecture}.deb"
        shutil.copyfile(deb_path(store, package.sha256), folder / "pool" / name)
    (index / "Packages").write_bytes(_ftparchive(folder, "packages", "pool"))
    fields = {"Suite": "stable", "Architectures": "arm64", "Components": "main"}
    options = [part for key, value in fields.items() for part in ("-o", f"APT::FTPArchive::Release::{key}={value}")]
    _sign(folder / "dists/stable", environment, *options)


def _cuda(folder: Path, environment: dict[str, str]) -> None:
    """CUDA's cross packages, in a flat archive."""
    for name in CROSS:
        tree = folder / f".{name}"
        (tree / _TOP / "lib/stubs").mkdir(parents=True)
        (tree / "DEBIAN").mkdir()
        fields = f"Package: cuda-{name}-cross-aarch64-8-0\nVersion: 8.0.84-1\nArchitecture: arm64\n"
        (tree / "DEBIAN/control").write_text(f"{fields}Maintainer: stand-in <a@example.org>\nDescription: stand-in\n")
        (tree / _TOP / f"lib/lib{name}_static.a").write_bytes(os.urandom(MEGABYTES * 10**6))
        (tree / _TOP / f"lib/stubs/lib{name}.so").write_text(name)
        argv = ("dpkg-deb", "--build", "--root-owner-group", "-Zxz", "-z0", str(tree), str(folder))
        subprocess.run(argv, check=True, capture_output=True)
        shutil.rmtree(tree)
    (folder / "Packages").write_bytes(_ftparchive(folder, "packages", "."))
    _sign(folder, environment)


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Counts what is sent."""
        super().copyfile(source, outputfile)
        server = self.server
        assert isinstance(server, _Server)
        server.sent += Path(self.translate_path(self.path)).stat().st_size


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    sent = 0


@contextmanager
def _served(folder: Path) -> Iterator[_Server]:
    server = _Server(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- what is measured ------------------------------------------------------------------------------------------------


def _cold(
    store: Path, url: str, fingerprint: str, packages: tuple[str, ...], server: _Server
) -> tuple[float, float, int]:
    """Seconds for the lock, seconds for the root, and bytes that were fetched, in an empty store."""
    key = ArchiveKey(fingerprint=fingerprint, places=(f"{url}key.pub",), source="made here")
    archives = {
        name: Archive(name=name, uri=f"{url}{name}/", keys=(key,), source="made here")
        for name in ("distribution", "cuda")
    }
    step = LockStep(
        name="benchmark",
        lock="",
        architecture="arm64",
        suites=(Suite(archive="distribution", name="stable"), Suite(archive="cuda", name="/", components=())),
        packages=(*packages, *(f"cuda-{name}-cross-aarch64-8-0" for name in CROSS)),
        snapshot=_SNAPSHOT,
    )
    jobs = [_job(store, name) for name in ("lock", "root")]
    server.sent = 0
    began = time.perf_counter()
    run_lock(step, {}, jobs[0], archives=archives)
    resolved = time.perf_counter()
    run_root(RootStep(name="benchmark", inputs={"lock": step}), {"lock": jobs[0].out}, jobs[1], archives=archives)
    ended = time.perf_counter()
    shutil.rmtree(store)
    return resolved - began, ended - resolved, server.sent


def _job(store: Path, name: str) -> Job:
    out, work = store / "tmp" / name / "out", store / "tmp" / name / "work"
    out.mkdir(parents=True)
    work.mkdir()
    return Job(
        key=name,
        out=out,
        work=work,
        settings=Settings(store=store),
        log=lambda line: None,
        cancelled=threading.Event(),
    )
