from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftune.storage.files import DamagedFile
from selftune.tracking import journal as journal_module
from selftune.tracking.journal import Journal, JournalFollower, metrics, read_table, vector

LABELS = ("a", "b", "c")


def opened(folder: Path) -> Journal:
    return Journal(folder, "steps", [pa.field("step", pa.int64()), vector("rate", LABELS)], ["step"])


def row(step: int, offset: float = 0.0) -> dict[str, object]:
    return {"step": step, "rate": np.array([step, step + 0.1, step + 0.2]) + offset}


def steps(folder: Path) -> list[int]:
    return list(read_table(folder, "steps")["step"].to_pylist())


def test_rows_come_back_as_written_while_open_and_after_closing(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for step in range(3):
        journal.append(row(step))
    while_open = read_table(tmp_path, "steps")
    journal.close()
    closed = read_table(tmp_path, "steps")
    assert while_open.equals(closed)
    assert closed["rate/b"].to_pylist() == [0.1, 1.1, 2.1]
    assert not (tmp_path / "steps.arrows").exists()
    assert pq.read_table(tmp_path / "steps.parquet").column_names == ["step", "rate/a", "rate/b", "rate/c"]


def test_a_kill_loses_nothing_that_append_returned_from(tmp_path: Path) -> None:
    program = """
import sys, pathlib, numpy as np, pyarrow as pa
from selftune.tracking.journal import Journal, vector
columns = [pa.field("step", pa.int64()), vector("rate", ["a", "b", "c"])]
journal = Journal(pathlib.Path(sys.argv[1]), "steps", columns, ["step"])
for step in range(10**9):
    journal.append({"step": step, "rate": np.full(3, float(step))})
    print(step, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
    there = steps(tmp_path)
    assert there[:20] == acknowledged
    assert there == list(range(len(there)))


@pytest.mark.parametrize("torn", [0.01, 0.3, 0.6, 0.99])  # of the last row is missing
def test_a_torn_last_row_is_left_out_and_the_table_goes_on(tmp_path: Path, torn: float) -> None:
    journal = opened(tmp_path)
    stream = tmp_path / "steps.arrows"
    for step in range(3):
        whole = stream.stat().st_size
        journal.append(row(step))
    os.truncate(stream, stream.stat().st_size - max(1, int(torn * (stream.stat().st_size - whole))))
    assert steps(tmp_path) == [0, 1]
    journal = opened(tmp_path)
    journal.append(row(2))
    assert steps(tmp_path) == [0, 1, 2]


def test_reopening_keeps_the_rows_and_recomputed_ones_replace_them(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for step in range(5):
        journal.append(row(step))
    journal.close()
    journal = opened(tmp_path)  # from a checkpoint at step 3
    for step in (3, 4, 5):
        journal.append(row(step, offset=100.0))
    while_open = read_table(tmp_path, "steps")
    journal.close()
    assert while_open.equals(read_table(tmp_path, "steps"))
    assert while_open["rate/a"].to_pylist() == [0, 1, 2, 103, 104, 105]


def test_killed_between_the_two_halves_of_folding_rows_are_not_doubled(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for step in range(3):
        journal.append(row(step))
    before = (tmp_path / "steps.arrows").read_bytes()
    journal.fold()
    (tmp_path / "steps.arrows").write_bytes(before)  # the Parquet file is new, the stream is not yet
    assert steps(tmp_path) == [0, 1, 2]


def test_a_writer_needs_the_same_memory_however_long_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "PART_ROWS", 10)
    journal = opened(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(journal_module, "read_table", None)  # it does not look at what it wrote before
        for step in range(35):
            journal.append(row(step))
    parts = sorted(path.name for path in tmp_path.glob("*.parquet"))
    assert parts == ["steps.part-0.parquet", "steps.part-1.parquet", "steps.part-2.parquet"]
    assert steps(tmp_path) == list(range(35))
    journal.close()
    assert [path.name for path in tmp_path.iterdir()] == ["steps.parquet"]
    assert steps(tmp_path) == list(range(35))


def test_rows_of_many_bytes_become_parts_sooner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "PART_BYTES", 5_000)
    journal = opened(tmp_path)
    while not (tmp_path / "steps.part-0.parquet").exists():
        journal.append(row(0))
        assert (tmp_path / "steps.arrows").stat().st_size < 6_000


@pytest.mark.parametrize("left", ["steps.arrows", "steps.part-0.parquet"])
def test_a_writer_killed_while_it_closes_or_begins_anew_leaves_every_row_once(tmp_path: Path, left: str) -> None:
    half_folded(tmp_path)
    content = (tmp_path / left).read_bytes()
    opened(tmp_path).close()
    (tmp_path / left).write_bytes(content)
    assert steps(tmp_path) == list(range(6))
    opened(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["steps.parquet"]
    assert steps(tmp_path) == list(range(6))


def test_a_reader_that_is_overtaken_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half_folded(tmp_path)
    read_frames = journal_module._read_frames

    def overtaken(folder: Path, name: str) -> pa.Table | None:
        monkeypatch.setattr(journal_module, "_read_frames", read_frames)
        found = read_frames(folder, name)
        opened(folder)  # another driver goes on: the part's rows are in the whole file now
        return found

    monkeypatch.setattr(journal_module, "_read_frames", overtaken)
    assert steps(tmp_path) == list(range(6))


def test_metrics_become_columns_as_they_appear(tmp_path: Path) -> None:
    columns = [pa.field("step", pa.int64()), metrics("metrics")]
    journal = Journal(tmp_path, "steps", columns, ["step"])
    journal.append({"step": 0, "metrics": {"loss": 1.0}})
    journal.fold()
    journal.append({"step": 1, "metrics": {"accuracy": 0.5, "loss": float("nan")}})
    table = read_table(tmp_path, "steps")
    assert table["accuracy"].to_pylist() == [None, 0.5]
    assert table["loss"].to_pylist() == [1.0, pytest.approx(float("nan"), nan_ok=True)]


def test_rows_are_sorted_by_all_keys(tmp_path: Path) -> None:
    columns = [pa.field(name, pa.int64()) for name in ("trainer", "order")]
    journal = Journal(tmp_path, "reports", columns, ["trainer", "order"])
    for trainer, order in [(1, 0), (0, 1), (0, 0), (1, 1), (0, 1)]:
        journal.append({"trainer": trainer, "order": order})
    there = read_table(tmp_path, "reports").to_pylist()
    assert [(r["trainer"], r["order"]) for r in there] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_any_number_of_entries(tmp_path: Path, count: int) -> None:
    labels = [f"[{i}]" for i in range(count)]
    journal = Journal(tmp_path, "steps", [pa.field("step", pa.int64()), vector("rate", labels)], ["step"])
    for step in range(2):
        journal.append({"step": step, "rate": np.full(count, 0.5)})
    assert read_table(tmp_path, "steps").shape == (2, 1 + count)


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    opened(tmp_path).close()
    assert read_table(tmp_path, "steps").column_names == ["step", "rate/a", "rate/b", "rate/c"]


def test_the_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    columns = [pa.field("step", pa.int64()), vector("rate", ["a", "b", "other"])]
    with pytest.raises(ValueError, match="another study"):
        Journal(tmp_path, "steps", columns, ["step"])


def test_a_vector_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 entries, got 2"):
        opened(tmp_path).append({"step": 0, "rate": np.zeros(2)})


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"step": [1]}), tmp_path / "steps.parquet")
    with pytest.raises(ValueError, match="not written by selftune"):
        read_table(tmp_path, "steps")


def test_an_append_of_a_hundred_columns_takes_far_less_than_a_millisecond(tmp_path: Path) -> None:
    labels = [str(i) for i in range(100)]
    journal = Journal(tmp_path, "steps", [pa.field("step", pa.int64()), vector("rate", labels)], ["step"])
    values = np.random.default_rng(0).standard_normal(100)
    seconds = []
    for step in range(300):
        began = time.perf_counter()
        journal.append({"step": step, "rate": values})
        seconds.append(time.perf_counter() - began)
    assert np.median(seconds) < 1e-3


# Following -------------------------------------------------------------------------------------------


def new_steps(follower: JournalFollower) -> list[int]:
    return list(follower.rows()["step"].to_pylist())


def test_a_follower_gets_every_row_once_however_often_it_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "PART_ROWS", 5)
    journal, follower, heard = opened(tmp_path), JournalFollower(tmp_path, "steps"), []
    for step in range(60):
        journal.append(row(step))
        if step % 7 in (0, 1):  # within a part, after one, after several
            heard.append(new_steps(follower))
    heard.append(new_steps(follower))
    assert [step for steps in heard for step in steps] == list(range(60))
    assert new_steps(follower) == []
    assert not follower.is_whole
    journal.close()
    assert new_steps(follower) == list(range(60))


def test_a_follower_does_not_read_again_what_it_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "PART_ROWS", 5)
    journal, follower = opened(tmp_path), JournalFollower(tmp_path, "steps")
    for step in range(33):
        journal.append(row(step))
    assert new_steps(follower) == list(range(33))
    read, read_parquet = [], journal_module._read_parquet
    monkeypatch.setattr(journal_module, "_read_parquet", lambda path: read.append(path.name) or read_parquet(path))
    for step in range(33, 37):
        journal.append(row(step))
    assert new_steps(follower) == list(range(33, 37))
    assert read == ["steps.part-6.parquet"]


def test_a_follower_hears_all_again_when_another_writer_begins(tmp_path: Path) -> None:
    half_folded(tmp_path)
    follower = JournalFollower(tmp_path, "steps")
    assert new_steps(follower) == list(range(6))
    opened(tmp_path).append(row(6))
    assert new_steps(follower) == list(range(7))
    assert follower.is_whole


# Short writes and full disks -------------------------------------------------------------------------


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(tmp_path)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, bytes(content)[:7]))
    for step in range(5):
        journal.append(row(step))
    assert steps(tmp_path) == list(range(5))


def test_a_disk_that_is_full_for_a_moment_loses_no_row_that_was_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    write, taken = os.write, 0

    def full(descriptor: int, content: bytes) -> int:  # takes a part, then says why it takes no more
        nonlocal taken
        taken += 1
        if taken > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, bytes(content)[:20])

    for step in range(3):
        journal.append(row(step))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match=r"No space left on device: .*steps\.arrows"):
            journal.append(row(3))
    for step in range(4, 7):  # there is room again
        journal.append(row(step))
    assert steps(tmp_path) == [0, 1, 2, 4, 5, 6]
    journal.close()
    assert steps(tmp_path) == [0, 1, 2, 4, 5, 6]


def test_a_limit_of_the_file_size_stops_the_writer_and_keeps_every_row_before(tmp_path: Path) -> None:
    program = """
import sys, pathlib, resource, numpy as np, pyarrow as pa
from selftune.tracking.journal import Journal, vector
columns = [pa.field("step", pa.int64()), vector("rate", ["a", "b", "c"])]
journal = Journal(pathlib.Path(sys.argv[1]), "steps", columns, ["step"])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for step in range(140):
    journal.append({"step": step, "rate": np.full(3, float(step))})
    print(step, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    acknowledged = [int(line) for line in done.stdout.split()]
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert 0 < len(acknowledged) < 140
    assert steps(tmp_path) == acknowledged


# Damage ----------------------------------------------------------------------------------------------


def half_folded(folder: Path) -> None:
    """Rows 0 and 1 in the Parquet file, 2 and 3 in a part, 4 and 5 in the frames."""
    journal = opened(folder)
    for step in (0, 1):
        journal.append(row(step))
    journal.close()
    journal = opened(folder)
    for step in (2, 3):
        journal.append(row(step))
    journal.fold()
    for step in (4, 5):
        journal.append(row(step))


def finished(folder: Path) -> None:
    journal = opened(folder)
    for step in range(6):
        journal.append(row(step))
    journal.close()


@pytest.mark.parametrize("suffix", [".parquet", ".part-0.parquet", ".arrows"])
def test_no_byte_of_a_table_changes_unnoticed(tmp_path: Path, suffix: str) -> None:
    half_folded(tmp_path)
    path = tmp_path / f"steps{suffix}"
    right, content = read_table(tmp_path, "steps"), path.read_bytes()
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        try:
            assert read_table(tmp_path, "steps").equals(right)  # padding, statistics
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize("suffix", [".parquet", ".part-0.parquet", ".arrows"])
@pytest.mark.parametrize("content", [None, b"", b"half"])
def test_a_missing_part_of_a_table_is_noticed(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    half_folded(tmp_path)
    path = tmp_path / f"steps{suffix}"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedFile, match=rf"steps{re.escape(suffix)}: is"):
        read_table(tmp_path, "steps")


def test_a_truncated_finished_table_is_noticed(tmp_path: Path) -> None:
    finished(tmp_path)
    path = tmp_path / "steps.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedFile, match=r"steps\.parquet: is damaged"):
        read_table(tmp_path, "steps")


def test_a_table_of_another_version_is_refused(tmp_path: Path) -> None:
    finished(tmp_path)
    path = tmp_path / "steps.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"selftune.key": b'["step"]'}), path)
    with pytest.raises(ValueError, match="another version of selftune"):
        read_table(tmp_path, "steps")


def test_rows_that_are_not_kept_may_be_damaged_or_gone(tmp_path: Path) -> None:
    half_folded(tmp_path)
    (tmp_path / "steps.arrows").unlink()
    columns = [pa.field("step", pa.int64()), vector("rate", LABELS)]
    journal = Journal(tmp_path, "steps", columns, ["step"], keeps=lambda table: table["step"].to_numpy() < 3)
    assert steps(tmp_path) == [0, 1, 2]
    journal.append(row(3))
    journal.close()
    assert steps(tmp_path) == [0, 1, 2, 3]
