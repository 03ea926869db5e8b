"""Where a file of Starlark is: in the tree that is read, or in another repository (``@NAME//PATH``)."""

from __future__ import annotations


def split(path: str) -> tuple[str, str]:
    """The repository of a file, empty for the tree itself, and its path in there."""
    if not path.startswith("@"):
        return "", path
    repository, _, inner = path.removeprefix("@").partition("//")
    return repository, inner


def loaded(label: str, at: str) -> tuple[str, str]:
    """The repository and the path that a ``load`` in the file ``at`` names."""
    own, inner = split(at)
    repository, slashes, rest = label.partition("//")
    if not slashes:
        folder = inner.rpartition("/")[0]
        return own, f"{folder}/{label.lstrip(':')}".lstrip("/")
    package, _, file = rest.partition(":")
    return repository.lstrip("@") if repository else own, f"{package}/{file}".lstrip("/")
