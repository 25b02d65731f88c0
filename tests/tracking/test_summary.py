from __future__ import annotations

from pathlib import Path

import pytest

from selftune.tracking.summary import has_ended, read_summary, write_summary


def test_what_is_written_is_read_with_versions_added(tmp_path: Path) -> None:
    write_summary(tmp_path, {"status": "running"})
    assert not has_ended(read_summary(tmp_path))
    write_summary(tmp_path, {"status": "failed", "message": "no memory", "tuned": {"test_loss": 0.5}})
    summary = read_summary(tmp_path)
    assert has_ended(summary)
    assert summary["tuned"] == {"test_loss": 0.5}
    assert "torch" in summary["versions"]


def test_without_a_summary_the_study_goes_on(tmp_path: Path) -> None:
    assert not has_ended(read_summary(tmp_path))


def test_an_unknown_status_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'done'"):
        write_summary(tmp_path, {"status": "done"})
    assert list(tmp_path.iterdir()) == []
