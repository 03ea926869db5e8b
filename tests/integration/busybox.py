"""A root that holds nothing but a static busybox: small enough to make and to import in a moment."""

from __future__ import annotations

import subprocess
from pathlib import Path

COMMANDS = (
    *("sh", "id", "cat", "ls", "touch", "sleep", "tail", "dd", "echo", "grep", "ip", "true", "env", "chmod", "mkdir"),
    *("ping", "ps", "nc", "readlink"),
)


def make_root(folder: Path) -> Path:
    """busybox and its commands as links; the package comes through apt as the machine configures it."""
    options = ("-o", "APT::Sandbox::User=root")
    subprocess.run(("apt-get", *options, "download", "busybox-static"), cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("*.deb")
    subprocess.run(("dpkg-deb", "-x", str(package), str(folder / "x")), check=True)
    made = folder / "root"
    for name in ("bin", "etc", "tmp", "mnt"):
        (made / name).mkdir(parents=True)
    (folder / "x/bin/busybox").rename(made / "bin/busybox")
    for name in COMMANDS:
        (made / "bin" / name).symlink_to("busybox")
    return made
