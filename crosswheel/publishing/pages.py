"""The pages of an index: PEP 503's HTML and PEP 691's JSON (with PEPs 592, 629, 658, 700 and 714).

A plain static server gives ``index.html`` for a folder, and cannot choose by what a client accepts. So the JSON lies
beside it as ``index.v1_json``, the name that bandersnatch gives it, for servers that are told to choose. All URLs are
relative: an index works below any URL, and from a folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC
from html import escape
from typing import Any
from urllib.parse import quote

from crosswheel.publishing.ledger import Listed
from crosswheel.publishing.levels import Listing, file_project
from crosswheel.publishing.sidecars import SUFFIXES

SIMPLE = "simple"
HTML = "index.html"
JSON = "index.v1_json"
"""Of the media type ``application/vnd.pypi.simple.v1+json``."""
JSON_TYPE = "application/vnd.pypi.simple.v1+json"
API = "1.1"
"""The version of the API (PEP 629): sizes and upload times are of 1.1 (PEP 700)."""

MARK = "crosswheel"
_META = f'<meta name="generator" content="{MARK}">'


def ours(path: str, text: bytes) -> bool:
    """Whether a page was written here, by its name and text."""
    if path.endswith(HTML):
        return _META.encode() in text
    try:
        return bool(json.loads(text)["meta"]["_generator"] == MARK)
    except (ValueError, KeyError, TypeError):
        return False


def project_pages(
    listing: Listing, yanked: Mapping[str, str], beside: Mapping[str, frozenset[str]]
) -> Iterator[tuple[str, bytes]]:
    """The paths and texts of the pages of all packages of a listing.

    ``yanked`` are reasons by the wheels' places, ``beside`` the endings of what lies beside them.
    """
    simple = _simple(listing)
    up = "../" * (simple.count("/") + 2)
    for project, wheels in listing.projects.items():
        apart = {file: folders for file, folders in listing.apart.items() if file_project(file) == project}
        yield f"{simple}/{project}/{HTML}", _project_html(project, wheels, up, yanked, apart)
        yield f"{simple}/{project}/{JSON}", _project_json(project, wheels, up, yanked, beside)


def root_pages(listing: Listing) -> Iterator[tuple[str, bytes]]:
    """The paths and texts of the pages that list the packages."""
    simple = _simple(listing)
    names = list(listing.projects)
    links = [f'<a href="{quote(name)}/">{escape(name)}</a><br>' for name in names]
    title = f"Wheels for {listing.folder}" if listing.folder else "Wheels for all targets"
    yield f"{simple}/{HTML}", html_page(title, links)
    answer = {"meta": _meta(), "projects": [{"name": name} for name in names]}
    yield f"{simple}/{JSON}", _json(answer)


def _simple(listing: Listing) -> str:
    return f"{listing.folder}/{SIMPLE}" if listing.folder else SIMPLE


def _url(wheel: Listed, up: str) -> str:
    return f"{up}{quote(wheel.path)}"


# --- HTML ------------------------------------------------------------------------------------------------------------


def _project_html(
    project: str,
    wheels: tuple[Listed, ...],
    up: str,
    yanked: Mapping[str, str],
    apart: Mapping[str, tuple[str, ...]],
) -> bytes:
    lines = [_link(wheel, up, yanked.get(wheel.place)) for wheel in wheels]
    for file, folders in apart.items():
        places = ", ".join(f"{folder}/{SIMPLE}/" for folder in folders)
        told = f"{file} is another wheel on each of these targets, and stands in the index of each alone: {places}"
        lines.append(f"<p>{escape(told)}</p>")
    return html_page(f"Wheels of {project}", lines)


def _link(wheel: Listed, up: str, reason: str | None) -> str:
    """A wheel's anchor (PEP 503), and for people, for what it was built."""
    said = f"sha256={wheel.metadata_sha256}"
    attributes = {
        "href": f"{_url(wheel, up)}#sha256={wheel.sha256}",
        **({"data-requires-python": wheel.requires_python} if wheel.requires_python else {}),
        "data-dist-info-metadata": said,  # pip up to 23.2 and uv read this name, PEP 714 has the other
        "data-core-metadata": said,
        **({"data-yanked": reason} if reason is not None else {}),
    }
    text = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    told = f" for {wheel.target}, {wheel.cpu}" + (f"; yanked: {reason}" if reason is not None else "")
    return f"<a{text}>{escape(wheel.file)}</a>{escape(told)}<br>"


def html_page(title: str, lines: list[str]) -> bytes:
    """A page of lines that are HTML already, below a title that is not."""
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta name="pypi:repository-version" content="{API}">',
        _META,
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title>",
        "</head>",
        "<body>",
        f"<h1>{escape(title)}</h1>",
    ]
    return "\n".join([*head, *lines, "</body>", "</html>", ""]).encode()


# --- JSON ------------------------------------------------------------------------------------------------------------


def _meta() -> dict[str, str]:
    """Keys with a leading underscore are an index's own (PEP 691)."""
    return {"api-version": API, "_generator": MARK}


def _project_json(
    project: str,
    wheels: tuple[Listed, ...],
    up: str,
    yanked: Mapping[str, str],
    beside: Mapping[str, frozenset[str]],
) -> bytes:
    files = [_file(wheel, up, yanked.get(wheel.place), beside.get(wheel.place, frozenset())) for wheel in wheels]
    versions = dict.fromkeys(str(wheel.version) for wheel in wheels)
    return _json({"meta": _meta(), "name": project, "versions": list(versions), "files": files})


def _file(wheel: Listed, up: str, reason: str | None, beside: frozenset[str]) -> dict[str, Any]:
    digest = {"sha256": wheel.metadata_sha256}
    url = _url(wheel, up)
    return {
        "filename": wheel.file,
        "url": url,
        "hashes": {"sha256": wheel.sha256},
        **({"requires-python": wheel.requires_python} if wheel.requires_python else {}),
        # PEP 658's name is left out: pip 22.3 to 23.0 take what stands there for text, and stop (PEP 714).
        "core-metadata": digest,
        "yanked": reason if reason is not None else False,
        "size": wheel.size,
        "upload-time": wheel.entered.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "_target": wheel.target,
        "_cpu": wheel.cpu,
        "_beside": [f"{url}{quote(suffix)}" for suffix in SUFFIXES if suffix in beside],
    }


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
