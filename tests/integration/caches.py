"""Real caches for Bazel on 127.0.0.1: nginx with DAV from Debian, which speaks HTTP, and BuildGrid from the package
index, which speaks the Remote Execution API. Both are fetched by the tests, and neither is installed on the machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

BUILDGRID = "buildgrid==0.4.4"

_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log {folder}/access.log;
  client_max_body_size 0;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    {auth}
    location /bazel/ {{
      root {folder}/data;
      dav_methods PUT;
      create_full_put_path on;
      client_body_in_single_buffer on;
    }}
  }}
}}
"""

_BUILDGRID = """
server:
  - !channel
    address: 127.0.0.1:{port}
    insecure-mode: true
authorization:
  method: none
storages:
  - !disk-storage &storage
    path: {folder}/cas
caches:
  - !lru-action-cache &actions
    storage: *storage
    max-cached-refs: 100000
    allow-updates: true
instances:
  - name: ''
    services:
      - !action-cache
        cache: *actions
      - !cas
        storage: *storage
      - !bytestream
        storage: *storage
thread-pool-size: 50
"""


@dataclass
class Cache:
    """A server that runs. ``data`` is the folder where it keeps blobs, ``requests`` tells what it was asked."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]
    blobs: Path
    asked: list[str] = field(default_factory=list)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def pause(self) -> None:
        """It accepts connections, and answers nothing."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def requests(self) -> list[str]:
        """Lines of the form ``GET /bazel/ac/… 200``; nginx alone writes them."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [f"{parts[1].rsplit(' ', 1)[0]} {parts[2].split()[0]}" for parts in (line.split('"') for line in lines)]

    def corrupt(self, beginning: bytes) -> int:
        """Changes a byte of every blob that begins so; returns how many. BuildGrid keeps results of actions as blobs,
        too."""
        count = 0
        for path in self.blobs.rglob("*"):
            if path.is_file() and (data := path.read_bytes()).startswith(beginning):
                path.chmod(0o644)
                path.write_bytes(data[:-1] + bytes([data[-1] ^ 0xFF]))
                count += 1
        return count


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetched_nginx(folder: Path) -> Path:
    """Debian's nginx, unpacked. It needs libraries that every Debian with Python and git has."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    fetch = ("apt-get", "-o", "APT::Sandbox::User=root", "download", "nginx")
    subprocess.run(fetch, cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("nginx_*.deb")
    subprocess.run(("dpkg-deb", "--extract", str(package), str(folder / "root")), check=True)
    return folder / "root/usr/sbin/nginx"


def fetched_buildgrid(folder: Path) -> Path:
    """BuildGrid in a virtual environment of its own."""
    subprocess.run((sys.executable, "-m", "venv", str(folder)), check=True, capture_output=True)
    install = (str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--prefer-binary", BUILDGRID)
    subprocess.run(install, check=True, capture_output=True)
    return folder / "bin/bgd"


@contextmanager
def nginx(program: Path, folder: Path, auth: str = "") -> Iterator[Cache]:
    port = free_port()
    (folder / "data").mkdir(parents=True)
    (folder / "data").chmod(0o777)
    folder.chmod(0o755)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _NGINX.format(folder=folder, port=port, auth=auth) + ("" if os.geteuid() else "user root;\n")
    )
    argv = (str(program), "-c", str(configuration), "-p", str(folder), "-e", str(folder / "error.log"))
    blobs = folder / "data/bazel/cas"
    with _running(argv, port, {}) as process:
        yield Cache(url=f"http://127.0.0.1:{port}/bazel", folder=folder, process=process, blobs=blobs)


@contextmanager
def buildgrid(program: Path, folder: Path) -> Iterator[Cache]:
    port = free_port()
    folder.mkdir(parents=True)
    configuration = folder / "server.yml"
    configuration.write_text(_BUILDGRID.format(folder=folder, port=port))
    argv = (str(program), "server", "start", str(configuration))
    with _running(argv, port, {"HOME": str(folder)}) as process:
        yield Cache(url=f"grpc://127.0.0.1:{port}", folder=folder, process=process, blobs=folder / "cas")


@contextmanager
def _running(argv: tuple[str, ...], port: int, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _await(port, process)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError("the server did not begin to listen")
