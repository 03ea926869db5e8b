"""An experiment: the wheels of a release by instruction set as variant wheels (drafts PEP 817 and PEP 825).

An installer that knows the drafts asks the processor for its level, and takes the wheel that is for it; the one for
the target's own cpu is the null variant. Each is made from a wheel of the index: ``variant.json`` comes to its
``.dist-info``, RECORD is written anew, and all other members are the same bytes. The format is variantlib's.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from crosswheel.digest import sha256_bytes, sha256_file
from crosswheel.errors import InputError, MachineError
from crosswheel.publishing.ledger import Listed, read_ledger
from crosswheel.publishing.pages import HTML, SIMPLE, html_page
from crosswheel.publishing.stages import VARIANTS, locked
from crosswheel.publishing.writing import put
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.targets import Variant

if TYPE_CHECKING:
    from variantlib.variant_dist_info import VariantDistInfo

FROM = f"{VARIANTS}/from.json"
"""Of each variant wheel, the wheel that it was made from."""
_MEMBER = "variant.json"
_MOST = 10
"""So many foreign files are named."""
NULL = "null"
"""The label of the variant that demands nothing (PEP 817)."""


def build_variants(folder: Path, catalog: Catalog) -> tuple[str, ...]:
    """Writes the variant wheels of the index in ``folder`` below ``variants/``; the paths of files that changed.

    Raises ``MachineError`` without variantlib; ``InputError``, before anything is written, for an index that cannot be
    read and for foreign files in ``variants/``.
    """
    _need_variantlib()
    with locked(folder):
        old = _read_from(folder)
        families = _families(read_ledger(folder).wheels, catalog)
        texts = dict(_roots(families))
        infos: dict[str, dict[str, tuple[Listed, VariantDistInfo]]] = {}
        for (target, project), wheels in families.items():
            place = f"{VARIANTS}/{target}/{SIMPLE}/{project}"
            told = [(wheel, _info(wheel, wheels, catalog)) for wheel in wheels]
            infos[place] = {_path(place, wheel, info): (wheel, info) for wheel, info in told}
            texts.update(_jsons(place, infos[place]))
        pages = {f"{place}/{HTML}" for place in infos}
        files = sorted({*texts, *pages, *(path for same in infos.values() for path in same)})
        stale = _stale(folder, files, old)
        made: dict[str, dict[str, str]] = {}
        written: list[str] = []
        for place, same in infos.items():
            for path, (wheel, info) in same.items():
                if _make(folder, path, wheel, info, old["wheels"].get(path, {})):
                    written.append(path)
                made[path] = {"from": wheel.path, "from_sha256": wheel.sha256, "sha256": sha256_file(folder / path)}
            texts[f"{place}/{HTML}"] = _page(place, files, made, texts)
        listed = {"schema": 1, "files": files, "wheels": made}
        texts[FROM] = (json.dumps(listed, indent=1, sort_keys=True) + "\n").encode()
        written += [path for path, text in texts.items() if put(folder / path, text)]
        for path in stale:
            (folder / path).unlink(missing_ok=True)
        return (*written, *stale)


def _path(place: str, wheel: Listed, info: VariantDistInfo) -> str:
    return f"{place}/{wheel.file.removesuffix('.whl')}-{info.variant_label}.whl"


def _make(folder: Path, path: str, wheel: Listed, info: VariantDistInfo, told: Mapping[str, str]) -> bool:
    """Makes a variant wheel, unless it is there as it was made of this wheel; whether it was made."""
    place = folder / path
    if told.get("from_sha256") == wheel.sha256 and place.is_file() and sha256_file(place) == told.get("sha256"):
        return False
    return put(place, _with_variant(folder / wheel.path, info.to_str().encode()))


def _stale(folder: Path, files: Iterable[str], old: Mapping[str, Any]) -> tuple[str, ...]:
    """What an earlier run made and this one does not. ``InputError`` for files that no run made."""
    there = {path.relative_to(folder).as_posix() for path in (folder / VARIANTS).rglob("*") if not path.is_dir()}
    unknown = sorted(there - {*files, *old["files"], FROM})
    if unknown:
        raise InputError(
            "files among the variant wheels are not of them, and would be published with them",
            where=str(folder / VARIANTS),
            why=", ".join(ascii(path)[1:-1] for path in unknown[:_MOST]),
            hint="nothing was written; move them out of this folder",
        )
    return tuple(sorted(there & set(old["files"]) - set(files)))


def _need_variantlib() -> None:
    try:
        import variantlib  # noqa: F401
    except ImportError as error:
        hint = "pip install 'crosswheel[variants]', or variantlib==0.2.2"
        raise MachineError("variant wheels are made with variantlib, which is not here", hint=hint) from error


def _read_from(folder: Path) -> Mapping[str, Any]:
    path = folder / FROM
    if not path.is_file():
        return {"files": [], "wheels": {}}
    try:
        told = json.loads(path.read_bytes())
        return {"files": [str(name) for name in told["files"]], "wheels": dict(told["wheels"])}
    except (ValueError, KeyError, TypeError) as error:
        hint = f"remove {folder / VARIANTS}; it is made anew"
        raise InputError("this file cannot be read", where=str(path), why=str(error), hint=hint) from error


def _families(wheels: Iterable[Listed], catalog: Catalog) -> Mapping[tuple[str, str], tuple[Listed, ...]]:
    """The wheels of each target and package of which there is one with a level, and that for the target's own cpu."""
    found: dict[tuple[str, str], list[Listed]] = {}
    for wheel in wheels:
        if wheel.own or _variant(wheel, catalog):
            found.setdefault((wheel.target, wheel.project), []).append(wheel)
    return {key: tuple(same) for key, same in sorted(found.items()) if any(not wheel.own for wheel in same)}


def _variant(wheel: Listed, catalog: Catalog) -> Variant | None:
    return catalog.cpus[wheel.cpu].variant if wheel.cpu in catalog.cpus and not wheel.own else None


def _info(wheel: Listed, family: Iterable[Listed], catalog: Catalog) -> VariantDistInfo:
    """What ``variant.json`` says of a wheel. Who tells of the processor, all of a family say, the null variant too."""
    from variantlib.models.variant import VariantDescription, VariantProperty
    from variantlib.models.variant_info import ProviderInfo, VariantInfo
    from variantlib.variant_dist_info import VariantDistInfo

    told = next(variant for each in family if (variant := _variant(each, catalog)))
    namespace = VariantProperty.from_str(told.property).namespace
    provider = ProviderInfo(requires=[told.requires], plugin_api=told.plugin)
    info = VariantDistInfo(VariantInfo(namespace_priorities=[namespace], providers={namespace: provider}))
    own = _variant(wheel, catalog)
    if own is None:
        info.variant_desc = VariantDescription([], label=NULL)
    else:
        wanted = VariantProperty.from_str(own.property)
        info.variant_desc = VariantDescription([wanted], label=f"{wanted.namespace}_{wanted.value}")
    return info


def _jsons(place: str, infos: Mapping[str, tuple[Listed, VariantDistInfo]]) -> Iterator[tuple[str, bytes]]:
    """``NAME-VERSION-variants.json``: all variants of a release."""
    from variantlib.variants_json import VariantsJson

    releases: dict[str, VariantsJson] = {}
    for wheel, info in infos.values():
        release = "-".join(wheel.file.split("-")[:2])
        if release not in releases:
            releases[release] = VariantsJson(info)
        releases[release].merge(info)
    for release, told in releases.items():
        yield f"{place}/{release}-variants.json", f"{told.to_str()}\n".encode()


def _page(place: str, files: Sequence[str], made: Mapping[str, Mapping[str, str]], texts: Mapping[str, bytes]) -> bytes:
    def link(path: str) -> str:
        name = path.rpartition("/")[2]
        digest = made[path]["sha256"] if path in made else sha256_bytes(texts[path])
        return f'<a href="{quote(name)}#sha256={digest}">{escape(name)}</a><br>'

    own = [path for path in files if path.startswith(f"{place}/") and not path.endswith(f"/{HTML}")]
    return html_page(f"Variant wheels of {place.rpartition('/')[2]}", [link(path) for path in own])


def _roots(families: Iterable[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    targets: dict[str, list[str]] = {}
    for target, project in families:
        targets.setdefault(target, []).append(project)
    for target, projects in targets.items():
        links = [f'<a href="{quote(name)}/">{escape(name)}</a><br>' for name in projects]
        yield f"{VARIANTS}/{target}/{SIMPLE}/{HTML}", html_page(f"Variant wheels for {target}", links)


def _with_variant(wheel: Path, text: bytes) -> bytes:
    """The bytes of a wheel with ``variant.json``."""
    out = io.BytesIO()
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(out, "w") as bundle:
        record = next(info for info in source.infolist() if info.filename.endswith(".dist-info/RECORD"))
        name = record.filename.removesuffix("RECORD") + _MEMBER
        for info in source.infolist():
            if info is not record:
                _add(bundle, info, source.read(info))
        _add(bundle, _like(record, name), text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()
        rows = [row for row in csv.reader(source.read(record).decode().splitlines()) if row[0] != record.filename]
        lines = io.StringIO()
        added = [[name, f"sha256={digest}", str(len(text))], [record.filename, "", ""]]
        csv.writer(lines, lineterminator="\n").writerows([*rows, *added])
        _add(bundle, record, lines.getvalue().encode())
    return out.getvalue()


def _like(info: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    new = zipfile.ZipInfo(name, info.date_time)
    new.compress_type = info.compress_type
    new.external_attr = info.external_attr
    new.create_system = info.create_system
    return new


def _add(bundle: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    bundle.writestr(_like(info, info.filename), data)
