"""A stand-in of NVIDIA's archives: packages with the names, the layout, the stubs and the missing links of CUDA 8.0's
cross packages, in a flat signed archive, and in a package that holds such an archive.

The layout is that of ``cuda-…-cross-aarch64-8-0`` 8.0.84; the libraries are a few bytes that tell which they are.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from standin import Key, deb

VERSION = "8.0.84-1"
TOP = "usr/local/cuda-8.0/targets/aarch64-linux"
LICENCE = "cuda-license-8-0"
HEADERS = "cuda-misc-headers-cross-aarch64-8-0"
UNLINKED = ("cublas", "cufft", "curand", "cusolver")
"""Libraries of which there is a stub alone: no ``lib/libX.so`` leads to it."""
LINKED = ("cusparse", "nvgraph", "nvrtc", "npp")
NAMES = tuple(f"cuda-{name}-cross-aarch64-8-0" for name in ("cudart", *UNLINKED, *LINKED))


def fill(pool: Path, licence: str = "arm64", *, multi_arch: str = "") -> None:
    """Makes the packages; ``licence`` is the architecture of the one that all depend on."""
    more = {"Multi_Arch": multi_arch} if multi_arch else {}
    text = {f"usr/local/cuda-8.0/doc/{LICENCE}.txt": "EULA\n"}
    deb(pool, LICENCE, text, Version=VERSION, Architecture=licence, **more)
    deb(pool, HEADERS, {f"{TOP}/include/cuda_stdint.h": "#pragma once\n"}, Version=VERSION, Depends=LICENCE)
    depends = f"{LICENCE}, {HEADERS} (>= {VERSION})"
    cudart = {
        f"{TOP}/include/cuda_runtime.h": "#pragma once\n",
        f"{TOP}/lib/libcudart.so": "->libcudart.so.8.0",
        f"{TOP}/lib/libcudart.so.8.0": "->libcudart.so.8.0.84",
        f"{TOP}/lib/libcudart.so.8.0.84": "cudart\n",
        f"{TOP}/lib/stubs/libcuda.so": "cuda\n",
    }
    deb(pool, NAMES[0], cudart, Version=VERSION, Depends=depends)
    for name in (*UNLINKED, *LINKED):
        files = {f"{TOP}/include/{name}.h": "#pragma once\n", f"{TOP}/lib/stubs/lib{name}.so": f"{name}\n"}
        if name in LINKED:
            files[f"{TOP}/lib/lib{name}.so"] = f"->stubs/lib{name}.so"
        deb(pool, f"cuda-{name}-cross-aarch64-8-0", files, Version=VERSION, Depends=depends)


class FlatArchive:
    """An archive without suites: packages and indices lie beside each other."""

    def __init__(self, folder: Path, key: Key) -> None:
        self.folder = folder
        self.key = key
        folder.mkdir(parents=True, exist_ok=True)

    def publish(self, *, signed: bool = True, detached: bool = False) -> None:
        """Writes Packages, Release and its signature."""
        for name in ("InRelease", "Release", "Release.gpg"):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / "Packages").write_bytes(_ftparchive(self.folder, "packages", "."))
        options = ("-o", "APT::FTPArchive::Release::Origin=NVIDIA", "-o", "APT::FTPArchive::Release::Label=NVIDIA CUDA")
        release = _ftparchive(self.folder, *options, "release", ".")
        (self.folder / "Release").write_bytes(release)
        if signed and detached:
            self.key.sign_detached(self.folder / "Release")
        elif signed:
            self.key.sign(self.folder / "Release")

    def file(self, name: str) -> Path:
        """The package of this name."""
        return next(self.folder.glob(f"{name}_*.deb"))


def suited(flat: Path, folder: Path, architectures: Sequence[str] = ("amd64", "arm64")) -> None:
    """The same packages in an archive with the suite ``stable``, unsigned."""
    pool = folder / "pool"
    shutil.copytree(flat, pool, ignore=shutil.ignore_patterns("*Release*", "Packages"))
    for architecture in architectures:
        place = folder / f"dists/stable/main/binary-{architecture}"
        place.mkdir(parents=True)
        place.joinpath("Packages").write_bytes(_ftparchive(folder, "--arch", architecture, "packages", "pool"))
    options = [
        part
        for key, value in {"Suite": "stable", "Architectures": " ".join(architectures), "Components": "main"}.items()
        for part in ("-o", f"APT::FTPArchive::Release::{key}={value}")
    ]
    (folder / "dists/stable/Release").write_bytes(_ftparchive(folder, *options, "release", "dists/stable"))


def boxed(archive: Path, place: Path, name: str = "cuda-repo-l4t-8-0-local") -> Path:
    """A package that holds an archive, as NVIDIA's local ones do: in ``/var/cuda-repo-8-0-local``."""
    tree = place / f".{name}"
    inside = tree / "var/cuda-repo-8-0-local"
    shutil.copytree(archive, inside)
    (tree / "DEBIAN").mkdir()
    control = (
        f"Package: {name}\nVersion: {VERSION}\nArchitecture: arm64\nMaintainer: stand-in <a@b.org>\nDescription: x\n"
    )
    (tree / "DEBIAN/control").write_text(control)
    file = place / f"{name}_{VERSION}_arm64.deb"
    argv = ("dpkg-deb", "--build", "--root-owner-group", "-Znone", str(tree), str(file))
    subprocess.run(argv, check=True, capture_output=True)
    shutil.rmtree(tree)
    return file


def _ftparchive(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(("apt-ftparchive", *arguments), cwd=folder, check=True, capture_output=True).stdout
