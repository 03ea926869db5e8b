"""The private apt root: a folder with its own state, cache, sources and keyrings, and an empty dpkg status.

Nothing of the machine's dpkg is read or written, and no root is needed. The machine's apt configuration (proxies,
credentials) holds, except for what would weaken the check of signatures or write outside the private root.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from crosswheel.building.debian.aptrun import AptRunner, Ran
from crosswheel.building.debian.mirrors import Mirror
from crosswheel.errors import MachineError
from crosswheel.spec.sysroots import Suite

NO_CACHE = ("-o", "pkgCacheFile::Generate=false")
"""For ``apt-get update``: do not build a cache that nobody reads."""

_OUTSIDE = re.compile(r'["\n]')

_CONFIGURATION = """\
Dir::State "{root}";
Dir::State::lists "lists";
Dir::State::status "{root}/status";
Dir::State::extended_states "{root}/extended_states";
Dir::Cache "{root}";
Dir::Cache::archives "archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "{root}";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "{root}/empty";
Dir::Etc::preferences "{root}/none";
Dir::Etc::preferencesparts "{root}/empty";
Dir::Etc::trusted "{root}/none";
Dir::Etc::trustedparts "{root}/empty";
APT::Architecture "{architecture}";
#clear APT::Architectures;
APT::Architectures {{ "{architecture}"; }};
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::GzipIndexes "false";
Acquire::PDiffs "false";
Acquire::Retries "2";
Acquire::ForceHash "SHA256";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Update::Error-Mode "any";
APT::Sandbox::User "root";
"""
# Why: pre- and post-invoke commands of the machine clean its own caches; the sandbox user _apt cannot enter a folder in
# somebody's home; indexes kept compressed (GzipIndexes, set by Docker's images) make the resolution slower.


@dataclass(frozen=True, kw_only=True)
class Source:
    """A suite, where it comes from, and the keyring that must have signed it. Without a keyring it is believed as it
    is: its bytes are those of a sha256 that somebody has named."""

    suite: Suite
    mirror: Mirror
    keyring: Path | None

    def line(self, architecture: str) -> str:
        """The line of sources.list: no translations, no sources, no contents, only this keyring."""
        trust = f"signed-by={self.keyring}" if self.keyring else "trusted=yes"
        options = [f"arch={architecture}", "target=Packages", "lang=none", trust]
        if self.mirror.dated:
            options.append("check-valid-until=no")
        return " ".join(("deb", f"[{' '.join(options)}]", self.mirror.base, self.suite.name, *self.suite.components))


@dataclass(frozen=True, kw_only=True)
class PrivateApt:
    """A private apt root in the folder ``root``."""

    root: Path
    runner: AptRunner

    @classmethod
    def make(cls, root: Path, architecture: str, sources: Sequence[Source], runner: AptRunner) -> PrivateApt:
        """Writes the root into an empty or missing folder."""
        if _OUTSIDE.search(str(root)):
            raise MachineError("apt cannot work in a folder whose name has a quote or a line break.", where=str(root))
        for name in ("lists/partial", "archives/partial", "empty"):
            (root / name).mkdir(parents=True)
        (root / "status").touch()
        (root / "apt.conf").write_text(_CONFIGURATION.format(root=root, architecture=architecture))
        (root / "sources.list").write_text("".join(source.line(architecture) + "\n" for source in sources))
        return cls(root=root, runner=runner)

    def run(self, command: str, *arguments: str, folders: Sequence[Path] = ()) -> Ran:
        """Runs an apt command here. The configuration is given by ``-c``, so that it is read after the machine's."""
        return self.runner.run((command, "-c", str(self.root / "apt.conf"), *arguments), (self.root, *folders))


def local_folders(mirrors: Iterable[Mirror]) -> list[Path]:
    """The folders of this machine that mirrors lie in: a container must be shown them."""
    return [Path(unquote(m.base.removeprefix("copy:"))) for m in mirrors if m.base.startswith("copy:/")]
