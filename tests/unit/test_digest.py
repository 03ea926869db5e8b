"""Canonical JSON and the digests of files and trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswheel.digest import canonical_json, sha256_bytes, sha256_file, sha256_json, sha256_tree

pytestmark = pytest.mark.unit

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    turned = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(turned)


def test_canonical_json_is_compact_sorted_utf8() -> None:
    assert canonical_json({"b": [1, None], "a": "ä"}) == '{"a":"ä","b":[1,null]}'.encode()


@pytest.mark.parametrize("value", [1.5, {"a": [0.1]}, {1: "a"}])
def test_floats_and_keys_that_are_no_text_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_known_digests(tmp_path: Path) -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / "file").write_bytes(b"")
    assert sha256_bytes(b"") == sha256_file(tmp_path / "file") == empty
    assert sha256_json({}) == sha256_bytes(b"{}")


def test_a_tree_is_its_names_modes_links_and_contents(tmp_path: Path) -> None:
    def tree(name: str) -> Path:
        root = tmp_path / name
        (root / "sub").mkdir(parents=True)
        (root / "sub" / "file").write_text("text")
        (root / "link").symlink_to("sub/file")
        (root / "empty").mkdir()
        return root

    first, second = tree("first"), tree("second")
    os.utime(second / "sub" / "file", (0, 0))
    assert sha256_tree(first) == sha256_tree(second)
    digests = {sha256_tree(first)}
    (second / "sub" / "file").chmod(0o755)
    digests.add(sha256_tree(second))
    (second / "link").unlink()
    (second / "link").symlink_to("sub")
    digests.add(sha256_tree(second))
    (second / "empty").rmdir()
    digests.add(sha256_tree(second))
    (second / "sub" / "file").write_text("other")
    digests.add(sha256_tree(second))
    assert len(digests) == 5
