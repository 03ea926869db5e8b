"""Takes a wheel out of a build and writes it anew, so that equal contents give equal bytes.

What holds: names, order, times, modes and the uncompressed bytes are the same everywhere; so is RECORD. The compressed
bytes are zlib's, and another implementation of it (zlib-ng, as some distributions build Python with) may pack the same
content into other bytes. So two wheels of one build are byte-identical where Python uses the same zlib.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from pathlib import Path
from typing import NoReturn

from packaging.tags import Tag, parse_tag
from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from crosswheel.building.job import Cancelled, Job
from crosswheel.building.sources.archives import CHUNK, LIMITS, Limits, damaged, refuse, safe_parts
from crosswheel.errors import InputError, StepError
from crosswheel.planning.steps import WheelStep

DATE_TIME = (1980, 1, 1, 0, 0, 0)
"""The time of every member: the earliest that a zip can hold."""

_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
"""Signatures of a RECORD that is written anew, so they no longer fit."""


@dataclass(frozen=True)
class WheelNames:
    """What a wheel calls itself. ``stem`` is its file name up to the tag, as written (with a build number, if any)."""

    distribution: NormalizedName
    version: Version
    tags: frozenset[Tag]
    stem: str
    dist_info: str


def run_wheel(step: WheelStep, inputs: Mapping[str, Path], job: Job) -> None:
    """Writes the one wheel of the input ``run`` anew into ``job.out``.

    ``StepError`` where there is not exactly one, where its name, version, Python or ABI is not what was promised, or
    where it is a pure one (``any``) although a platform was promised: then nothing was compiled.
    """
    wheels = sorted(inputs["run"].rglob("*.whl"))
    if len(wheels) != 1:
        names = ", ".join(path.name for path in wheels) or "none"
        _fail(step, f"the build left {len(wheels)} wheels where one is expected", f"found: {names}")
    wheel = wheels[0]
    try:
        names_in = read_wheel_names(wheel)
    except InputError as error:
        _fail(step, "the build left a file that is no wheel", str(error))
    _check_promise(step, wheel, names_in)
    stem = f"{'-'.join(names_in.stem.split('-')[:2])}-{step.build}" if step.build else names_in.stem
    target = job.out / f"{stem}-{step.tag}.whl"
    job.log(f"{wheel.name} → {target.name}")
    rewrite(wheel, target, step.tag, job, build=step.build)


def _check_promise(step: WheelStep, wheel: Path, names: WheelNames) -> None:
    if names.distribution != canonicalize_name(step.distribution):
        _fail(step, f"the build left a wheel of {names.distribution}, not of {step.distribution}", wheel.name)
    if names.version != Version(step.version):
        _fail(step, f"the build left version {names.version}, not {step.version}", wheel.name)
    promised = parse_tag(step.tag)
    if all(tag.platform == "any" for tag in names.tags) and all(tag.platform != "any" for tag in promised):
        _fail(
            step,
            f"the build left a pure wheel, {wheel.name}: nothing was compiled",
            f"promised was {step.tag}; a build without a compiler often falls back to pure Python without a word",
        )
    have = {(tag.interpreter, tag.abi) for tag in names.tags}
    want = {(tag.interpreter, tag.abi) for tag in promised}
    if not want <= have:
        text = ", ".join(sorted(f"{interpreter}-{abi}" for interpreter, abi in have))
        _fail(step, f"the build left a wheel for {text}, not for {step.tag}", wheel.name)


def _fail(step: WheelStep, what: str, why: str) -> NoReturn:
    raise StepError(what, where=step.name, why=why)


def read_wheel_names(wheel: Path) -> WheelNames:
    """What a wheel's file name says, checked against its METADATA. ``InputError`` if they differ or it is no wheel."""
    try:
        name, version, _, tags = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename as error:
        raise InputError(f"{wheel.name} is no wheel's file name", where=str(wheel), why=str(error)) from error
    try:
        with zipfile.ZipFile(wheel) as bundle:
            dist_info = _dist_info(wheel, bundle, name, version)
            metadata = _headers(bundle, f"{dist_info}/METADATA")
            _headers(bundle, f"{dist_info}/WHEEL")
            inside = (canonicalize_name(metadata["Name"] or ""), Version(metadata["Version"] or ""))
    except (zipfile.BadZipFile, EOFError) as error:
        raise damaged(wheel, str(error)) from error
    except (KeyError, InvalidVersion) as error:
        raise InputError(f"{wheel.name} has no usable metadata", where=str(wheel), why=str(error)) from error
    if inside != (name, version):
        raise InputError(f"{wheel.name} says in its METADATA that it is {inside[0]} {inside[1]}", where=str(wheel))
    stem = "-".join(wheel.name.removesuffix(".whl").split("-")[:-3])
    return WheelNames(name, version, tags, stem, dist_info)


def _dist_info(wheel: Path, bundle: zipfile.ZipFile, name: NormalizedName, version: Version) -> str:
    folders = {info.filename.partition("/")[0] for info in bundle.infolist()}
    found = sorted(folder for folder in folders if folder.endswith(".dist-info"))
    if len(found) != 1:
        raise InputError(f"{wheel.name} has {len(found)} .dist-info folders, not one", where=str(wheel))
    inside, _, inside_version = found[0].removesuffix(".dist-info").rpartition("-")
    if canonicalize_name(inside) != name or Version(inside_version) != version:
        raise InputError(f"{wheel.name} holds {found[0]}", where=str(wheel))
    return found[0]


def _headers(bundle: zipfile.ZipFile, name: str) -> Message:
    return BytesParser(policy=compat32).parsebytes(bundle.read(name))


# --- writing ---------------------------------------------------------------------------------------------------------


def rewrite(
    wheel: Path, target: Path, tag: str, job: Job | None = None, limits: Limits = LIMITS, *, build: str = ""
) -> None:
    """Writes ``wheel`` to ``target`` with ``tag`` and, if there is one, ``build`` in WHEEL: members sorted,
    ``.dist-info`` last and RECORD at the end.

    Times are :data:`DATE_TIME`, modes 0644 and 0755. ``InputError`` for members that must not be in a wheel: links,
    paths that lead out, two of one name; or more than ``limits``.
    """
    dist_info = read_wheel_names(wheel).dist_info
    record = f"{dist_info}/RECORD"
    rows: list[tuple[str, str, str]] = []
    try:
        with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w") as bundle:
            for info in _ordered(wheel, source, dist_info, limits):
                if job is not None and job.cancelled.is_set():
                    raise Cancelled
                if info.filename == f"{dist_info}/WHEEL":
                    rows.append(_store(bundle, info.filename, _with_tag(source.read(info), tag, build)))
                else:
                    rows.append(_copy(source, info, bundle))
            _store(bundle, record, _record([*rows, (record, "", "")]))
    except (zipfile.BadZipFile, EOFError) as error:
        raise damaged(wheel, str(error)) from error


def _ordered(wheel: Path, source: zipfile.ZipFile, dist_info: str, limits: Limits) -> list[zipfile.ZipInfo]:
    """The files to copy, in order; folders, RECORD and signatures are left out."""
    members: dict[str, zipfile.ZipInfo] = {}
    size = 0
    for number, info in enumerate(source.infolist(), start=1):
        name = info.orig_filename if "\0" in info.orig_filename else info.filename
        path = "/".join(safe_parts(wheel, name))
        if stat.S_ISLNK(info.external_attr >> 16):
            refuse(wheel, name, "is a link, which no installer accepts in a wheel")
        if info.is_dir():
            continue
        if path != name:
            refuse(wheel, name, f"is not written as the plain path {path!r}")
        if path in members:
            refuse(wheel, name, "is there twice")
        size += info.file_size
        if number > limits.members or size > limits.size:
            refuse(wheel, name, f"is beyond the {limits.members:,} members or {limits.size:,} bytes that are allowed")
        members[path] = info
    for name in ("RECORD", *_SIGNATURES):
        members.pop(f"{dist_info}/{name}", None)
    return [members[name] for name in sorted(members, key=lambda name: (name.startswith(f"{dist_info}/"), name))]


def _with_tag(text: bytes, tag: str, build: str) -> bytes:
    """The WHEEL file with ``tag`` in place of its tags, one line for each that a compressed set stands for; and with
    ``build``, if there is one."""
    message = BytesParser(policy=compat32).parsebytes(text)
    del message["Tag"]
    for line in sorted(str(single) for single in parse_tag(tag)):
        message["Tag"] = line
    if build:
        del message["Build"]
        message["Build"] = build
    return message.as_bytes()


def _member(name: str, size: int, *, executable: bool = False) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, DATE_TIME)
    info.create_system = 3  # Unix, or the modes mean nothing
    info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    info.compress_type = zipfile.ZIP_DEFLATED  # at zlib's default level, 6
    info.file_size = size
    return info


def _copy(source: zipfile.ZipFile, info: zipfile.ZipInfo, bundle: zipfile.ZipFile) -> tuple[str, str, str]:
    executable = info.create_system == 3 and bool(info.external_attr >> 16 & 0o100)
    digest = hashlib.sha256()
    size = 0
    member = _member(info.filename, info.file_size, executable=executable)
    with source.open(info) as reader, bundle.open(member, "w") as writer:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            writer.write(chunk)
    return info.filename, _hash(digest.digest()), str(size)


def _store(bundle: zipfile.ZipFile, name: str, data: bytes) -> tuple[str, str, str]:
    with bundle.open(_member(name, len(data)), "w") as writer:
        writer.write(data)
    return name, _hash(hashlib.sha256(data).digest()), str(len(data))


def _hash(digest: bytes) -> str:
    """As RECORD has it: base64 for URLs, without padding (PEP 427)."""
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _record(rows: list[tuple[str, str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
