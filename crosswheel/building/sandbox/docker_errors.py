"""What goes wrong between crosswheel and a Docker engine, as sentences to a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from crosswheel.building.sandbox.engine import Engine
from crosswheel.errors import MachineError


def check_engine(engine: Engine) -> None:
    """``MachineError`` unless the engine can be talked to."""
    match engine.state:
        case "absent":
            raise MachineError(
                "There is no Docker engine on this machine: its socket is missing.",
                where=engine.host,
                hint="`./x doctor --fix` installs and starts it. In a container already? Use `--sandbox host`.",
            )
        case "refuses":
            raise MachineError(
                "The Docker daemon does not run: its socket is there, and nobody listens.",
                where=engine.host,
                hint="`sudo systemctl start docker`, or `./x doctor --fix`.",
            )
        case "forbidden":
            raise MachineError(
                "You may not use the Docker daemon: its socket belongs to the group docker.",
                where=engine.host,
                hint='`sudo usermod -aG docker "$USER"`, then log out and in again.',
            )
        case "silent":
            raise _silent(engine.host)
        case "answers" | "unknown":
            return


def check_root_dir(path: str) -> None:
    """``MachineError`` for a Docker that snap installed: its confinement hides most of this machine's folders."""
    if path.startswith("/var/snap/"):
        raise MachineError(
            "This Docker was installed by snap, and cannot see the folders that crosswheel mounts into containers.",
            where=path,
            hint="`sudo snap remove docker`, then `./x doctor --fix` installs the distribution's own.",
        )


def blind(area: str) -> MachineError:
    """The engine's containers do not see this machine's files."""
    return MachineError(
        "The Docker daemon does not see the files of this machine, so nothing can be mounted into its containers.",
        where=area,
        why="It runs on another machine, in another container, or was installed by snap.",
        hint="Use the daemon of this machine (DOCKER_HOST), put the store into a folder that both see "
        "(CROSSWHEEL_STORE), or use `--sandbox host`.",
    )


def _silent(host: str) -> MachineError:
    return MachineError(
        "The Docker daemon does not answer.",
        where=host,
        hint="`sudo systemctl restart docker`; `journalctl -u docker` says what it does.",
    )


def refuse(doing: str, explanation: str) -> NoReturn:
    """``MachineError`` for what the engine would not do."""
    text = explanation.lower()
    if "no space left on device" in text:
        raise MachineError(
            "There is no space left where Docker keeps its images and containers.",
            why=explanation.strip(),
            hint="`docker system df` shows what takes it; `./x clean` and `docker system prune` make room.",
        )
    if "bind source path does not exist" in text:
        raise blind(explanation.strip())
    if "permission denied" in text and ("mount" in text or "stat " in text):
        raise blind(explanation.strip())
    raise MachineError(f"Docker failed while {doing}.", why=explanation.strip(), hint="`./x doctor` looks at Docker.")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turns the SDK's exceptions into ``MachineError``. ``doing`` ends the sentence “… while …”."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException, Timeout

    try:
        yield
    except APIError as error:
        refuse(doing, str(error.explanation or error))
    except (RequestException, DockerException, ConnectionError, EOFError) as error:
        if isinstance(error, Timeout) or "timed out" in str(error).lower():
            raise _silent("") from error
        raise MachineError(
            f"The Docker daemon went away while {doing}.",
            why=str(error),
            hint="Was it stopped or killed? `./x doctor` looks at it; then build again: what is done is kept.",
        ) from error
