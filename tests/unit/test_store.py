"""The store: artefacts appear whole, damage is found, prefixes resolve, and cleaning spares what is in use."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from crosswheel.building import manifest
from crosswheel.building.cleaning import clean
from crosswheel.building.disk import remove
from crosswheel.building.store import Store
from crosswheel.errors import InputError, MachineError
from crosswheel.planning.steps import FilesStep, RenderedFile

pytestmark = pytest.mark.unit

DAY = 86400.0


def a_step(text: str = "text") -> FilesStep:
    return FilesStep(name=f"files of {text}", files={"a.txt": RenderedFile(text=text)})


def put(store: Store, step: FilesStep, files: dict[str, str] | None = None, *, seconds: float = 1.5) -> Path:
    """Commits an artefact and returns its out/."""
    with store.hold(step.key):
        building = store.open_tmp(step)
        for name, text in (files or {"a.txt": "text", "sub/b.txt": "more"}).items():
            path = building.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return store.commit(building, step, seconds).path


def complaint(store: Store, key: str) -> str:
    """What lookup says is wrong; an artefact that it returns fails the test."""
    told: list[str] = []
    assert store.lookup(key, told.append) is None
    return "; ".join(told)


def test_a_committed_artefact_is_found_with_its_facts(tmp_path: Path) -> None:
    store, step = Store(tmp_path / "store"), a_step()
    assert store.lookup(step.key) is None and not store.has(step.key)
    out = put(store, step)
    artefact = store.lookup(step.key)
    assert artefact is not None and artefact.path == out and store.has(step.key)
    assert (out / "sub/b.txt").read_text() == "more"
    assert (artefact.meta.seconds, artefact.meta.bytes, artefact.meta.kind) == (1.5, 8, "files")
    assert artefact.meta.tool
    assert out == tmp_path / "store/artefacts" / step.key[:2] / step.key / "out"
    assert list((tmp_path / "store/tmp").iterdir()) == []
    record = json.loads((out.parent / "step.json").read_text())
    assert record == {"name": step.name, "described": step.described()}


def test_nothing_is_there_before_the_commit(tmp_path: Path) -> None:
    store, step = Store(tmp_path), a_step()
    building = store.open_tmp(step)
    (building.out / "a.txt").write_text("half")
    assert store.lookup(step.key) is None
    assert not store.path(step.key).exists()
    assert store.leftovers(step.key) == [building.folder]


def test_small_results_are_read_only_and_whole_folders_can_be_entered(tmp_path: Path) -> None:
    store, step = Store(tmp_path), a_step()
    building = store.open_tmp(step)
    closed = building.out / "closed"
    closed.mkdir()
    (closed / "tool").write_text("#!")
    (closed / "tool").chmod(0o755)
    closed.chmod(0o000)
    out = store.commit(building, step, 0).path
    assert (out / "closed/tool").stat().st_mode & 0o777 == 0o555
    assert (out / "closed").stat().st_mode & 0o700 == 0o700
    assert store.lookup(step.key) is not None


def test_links_are_kept_as_links(tmp_path: Path) -> None:
    store, step = Store(tmp_path), a_step()
    building = store.open_tmp(step)
    (building.out / "real").write_text("x")
    (building.out / "link").symlink_to("real")
    (building.out / "dangling").symlink_to("/nowhere/at/all")
    artefact = store.commit(building, step, 0)
    assert artefact.meta.manifest.links == {"link": "real", "dangling": "/nowhere/at/all"}
    (artefact.path / "link").unlink()
    assert complaint(store, step.key) == "the link out/link is missing"


def truncate(out: Path) -> None:
    (out / "a.txt").chmod(0o644)
    (out / "a.txt").write_text("te")


def lose(out: Path) -> None:
    (out / "sub/b.txt").unlink()


def alter(out: Path) -> None:
    (out / "a.txt").chmod(0o644)
    (out / "a.txt").write_text("TEXT")


def lose_out(out: Path) -> None:
    remove(out)


def cut_step(out: Path) -> None:
    path = out.parent / "step.json"
    path.write_bytes(path.read_bytes()[:-20])


def change_step(out: Path) -> None:
    path = out.parent / "step.json"
    path.write_text(path.read_text().replace('"text"', '"other"', 1).replace('"schema": 1', '"schema": 2'))


def cut_meta(out: Path) -> None:
    (out.parent / "meta.json").write_text("{")


def empty_meta(out: Path) -> None:
    (out.parent / "meta.json").write_text("")


def lose_meta(out: Path) -> None:
    (out.parent / "meta.json").unlink()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (truncate, "out/a.txt has 2 bytes instead of 4"),
        (lose, "out/sub/b.txt is missing"),
        (alter, "out/a.txt has other contents than when it was made"),
        (lose_out, "the folder out/ is missing"),
        (cut_step, "step.json cannot be read"),
        (change_step, "step.json does not have the key as its hash"),
        (cut_meta, "meta.json cannot be read"),
        (empty_meta, "meta.json cannot be read"),
        (lose_meta, "step.json or meta.json is missing"),
    ],
)
def test_damage_is_found_and_counts_as_absent(tmp_path: Path, harm: Callable[[Path], None], said: str) -> None:
    store, step = Store(tmp_path), a_step()
    harm(put(store, step))
    assert complaint(store, step.key).startswith(said)
    put(store, step)  # made anew: the damaged one gives way
    assert store.lookup(step.key) is not None
    assert len(list((tmp_path / "kept").glob(f"{step.key}.*/damaged"))) == 1


def test_many_files_are_checked_by_size_alone(tmp_path: Path) -> None:
    store, step = Store(tmp_path), a_step()
    files = {f"d{i % 7}/f{i}": "same" for i in range(manifest.HASHED_FILES + 1)}
    out = put(store, step, files)
    (out / "d0/f0").chmod(0o644)
    (out / "d0/f0").write_text("SAME")
    assert store.lookup(step.key) is not None
    (out / "d0/f0").write_text("longer")
    assert complaint(store, step.key) == "out/d0/f0 has 6 bytes instead of 4"


def test_a_large_result_is_looked_up_fast(tmp_path: Path) -> None:
    store, step = Store(tmp_path), a_step()
    put(store, step, {f"d{i // 100}/f{i}": "" for i in range(5000)})
    start = time.perf_counter()
    assert store.lookup(step.key) is not None
    assert time.perf_counter() - start < 1.0  # 0.03 s on a free core


def test_a_failed_step_keeps_its_log_and_with_keep_its_work(tmp_path: Path) -> None:
    store, step = Store(tmp_path), a_step()
    for keep in (True, False):
        with store.hold(step.key):
            building = store.open_tmp(step)
            building.log.write_text("why\n")
            (building.out / "half").write_text("x")
            (building.work / "scratch").write_text("x")
            folder = store.fail(building, keep_work=keep)
        assert folder == tmp_path / "failed" / step.key
        assert (folder / "work/scratch").exists() is keep
        assert not (folder / "out").exists()
        record = store.describe(step.key)
        assert record.state == "failed" and record.meta is None
        assert store.log_path(step.key[:8]).read_text() == "why\n"
    put(store, step)
    assert store.describe(step.key).state == "stored"
    assert not folder.exists()


def test_prefixes_resolve(tmp_path: Path) -> None:
    store = Store(tmp_path)
    steps = [a_step(str(i)) for i in range(40)]
    for step in steps:
        put(store, step)
    for step in steps:
        record = store.describe(step.key[:16])
        assert (record.key, record.name) == (step.key, step.name)
        assert record.step == step.described()
    first = next(s for s in steps if sum(t.key[0] == s.key[0] for t in steps) > 1)
    with pytest.raises(InputError) as ambiguous:
        store.describe(first.key[0])
    assert f"keys begin with “{first.key[0]}”" in str(ambiguous.value)
    assert first.key[:16] in str(ambiguous.value) or len([s for s in steps if s.key[0] == first.key[0]]) > 5
    with pytest.raises(InputError) as unknown:
        store.describe(first.key[:10] + "zz")
    assert first.key[:16] in str(unknown.value) and first.name in str(unknown.value)
    with pytest.raises(InputError, match="The store is empty"):
        Store(tmp_path / "new").describe("abc")
    with pytest.raises(InputError):
        store.describe("")


def test_a_running_step_has_a_log(tmp_path: Path) -> None:
    store, step = Store(tmp_path), a_step()
    building = store.open_tmp(step)
    building.log.write_text("so far\n")
    assert store.describe(step.key[:12]).state == "running"
    assert store.log_path(step.key).read_text() == "so far\n"


def test_describe_tells_of_a_damaged_record(tmp_path: Path) -> None:
    store, step = Store(tmp_path), a_step()
    cut_step(put(store, step))
    with pytest.raises(InputError, match="damaged"):
        store.describe(step.key)


def age(store: Store, step: FilesStep, seconds: float, now: float) -> None:
    os.utime(store.path(step.key) / "meta.json", (now - seconds, now - seconds))


def test_clean_by_age(tmp_path: Path) -> None:
    store, now = Store(tmp_path), time.time()
    old, young, used = a_step("old"), a_step("young"), a_step("used")
    for step, days in ((old, 30), (young, 1), (used, 30)):
        put(store, step)
        age(store, step, days * DAY, now)
    store.touch(used.key)
    removed = clean(store, timedelta(days=7), None, now)
    assert [(item.key, item.name, item.bytes) for item in removed] == [(old.key, old.name, 8)]
    assert [store.has(step.key) for step in (old, young, used)] == [False, True, True]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_clean_by_size_takes_the_least_recently_used_first(tmp_path: Path) -> None:
    store, now = Store(tmp_path), time.time()
    steps = [a_step(str(i)) for i in range(4)]
    for i, step in enumerate(steps):
        put(store, step, {"f": "x" * 100})
        age(store, step, (i + 1) * DAY, now)
    removed = clean(store, None, 250, now)
    assert [item.key for item in removed] == [steps[3].key, steps[2].key]
    assert clean(store, None, 250, now) == ()
    clean(store, None, 0, now)
    assert not any(store.has(step.key) for step in steps)


def test_clean_spares_what_is_made_or_used(tmp_path: Path) -> None:
    store, step, making = Store(tmp_path), a_step("used"), a_step("making")
    put(store, step)
    other = Store(tmp_path)
    with store.use(step.key), store.hold(making.key):
        building = store.open_tmp(making)
        assert clean(other, None, 0, time.time()) == ()
        assert store.has(step.key) and building.folder.exists()
    with store.use(step.key), store.use(step.key):  # any number may use it
        assert store.has(step.key)
    gone = {item.path.name for item in clean(other, None, 0, time.time())}
    assert gone == {step.key, building.folder.name}


def test_clean_without_limits_takes_leftovers_alone(tmp_path: Path) -> None:
    store, step, broken = Store(tmp_path), a_step("fine"), a_step("broken")
    put(store, step)
    with store.hold(broken.key):
        store.fail(store.open_tmp(broken), keep_work=True)
    stale = store.open_tmp(broken).folder  # a build that was killed
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/wrong.tar.gz").write_text("bad")
    (tmp_path / "debs").mkdir()
    (tmp_path / "debs/libc6.deb").write_text("deb")
    removed = {item.path.name: item.bytes for item in clean(store, None, None, time.time())}
    assert set(removed) == {broken.key, stale.name, "wrong.tar.gz", "libc6.deb"}
    assert removed["wrong.tar.gz"] == 3
    assert store.has(step.key)
    assert clean(store, None, None, time.time()) == ()


def test_clean_leaves_packages_alone_while_a_build_runs(tmp_path: Path) -> None:
    store, making = Store(tmp_path), a_step("making")
    (tmp_path / "debs").mkdir()
    (tmp_path / "debs/libc6.deb").write_text("deb")
    with store.hold(making.key):
        store.open_tmp(making)
        assert clean(Store(tmp_path), None, 0, time.time()) == ()


def test_a_damaged_artefact_is_cleaned_first(tmp_path: Path) -> None:
    store, now = Store(tmp_path), time.time()
    bad, good = a_step("bad"), a_step("good")
    cut_meta(put(store, bad))
    put(store, good)
    removed = clean(store, timedelta(days=1), None, now)
    assert [(item.key, item.name) for item in removed] == [(bad.key, "(damaged)")]


def test_folders_that_forbid_it_are_removed_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    (folder / "f").write_text("x")
    (tmp_path / "a/link").symlink_to("/")
    folder.chmod(0o500)
    (tmp_path / "a").chmod(0o500)
    remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    remove(tmp_path / "a")


def test_a_store_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError) as error:
        Store(tmp_path / "file/store").open_tmp(a_step())
    assert "CROSSWHEEL_STORE" in str(error.value)
