"""What the status page says of what builds cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from crosswheel.errors import DataError
from crosswheel.publishing.measured import measured_lines

pytestmark = pytest.mark.unit

ROW = '''
[[measured]]
proof = "tf.json"
what = "from nothing"
minutes = 63
cpu_minutes = 91.5
memory = 3.3
note = "killed once"
'''


def test_nothing_was_measured(tmp_path: Path) -> None:
    assert list(measured_lines(tmp_path)) == []


def test_a_measurement_is_a_row_with_links(tmp_path: Path) -> None:
    (tmp_path / "tf.json").touch()
    (tmp_path / "m.json").touch()
    (tmp_path / "measured.toml").write_text(ROW + 'mirror = "m.json"\n')
    row = next(line for line in measured_lines(tmp_path) if line.startswith("| [tf]"))
    assert "(proofs/tf.json) | from nothing | 63 min | 91.5 min | 3.3 GiB | killed once; [" in row
    assert "(proofs/m.json)" in row


@pytest.mark.parametrize("text", [ROW, ROW.replace("tf.json", "gone.json"), ROW + 'mirror = "gone.json"'])
def test_what_is_not_kept_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "tf.json").touch()
    (tmp_path / "measured.toml").write_text(text)
    if "gone" in text:
        with pytest.raises(DataError, match=r"'gone\.json' is not kept here"):
            list(measured_lines(tmp_path))
    else:
        assert list(measured_lines(tmp_path))
