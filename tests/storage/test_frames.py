"""Many files of frames in one process, of which only some are open."""

import os

import pytest

from selftune.storage import frames
from selftune.storage.frames import FrameWriter, read_frames
from selftune.storage.open_files import OpenFiles


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def four_at_a_time(monkeypatch):
    files = OpenFiles(most=4)
    monkeypatch.setattr(frames, "_FILES", files)
    return files


def test_many_writers_share_the_open_files_and_lose_nothing(tmp_path):
    before = open_files()
    writers = [FrameWriter(tmp_path / str(number), b"first") for number in range(20)]
    for row in range(3):
        for writer in writers:
            writer.append(f"{writer.path.name} {row}".encode())
    assert open_files() <= before + 4
    for number, writer in enumerate(writers):
        content = read_frames(writer.path.read_bytes(), writer.path)
        assert content == [b"first", *(f"{number} {row}".encode() for row in range(3))]
        assert writer.path.stat().st_size == writer.length
        writer.close()
    assert open_files() == before


def test_a_writer_that_begins_a_file_anew_does_not_write_to_the_old_one(tmp_path):
    old = FrameWriter(tmp_path / "rows", b"old")
    old.append(b"row")
    new = FrameWriter(tmp_path / "rows", b"new")
    new.append(b"row")
    assert read_frames(new.path.read_bytes(), new.path) == [b"new", b"row"]


def test_a_file_that_somebody_removed_is_named(tmp_path, four_at_a_time):
    writer = FrameWriter(tmp_path / "rows", b"first")
    writer.path.unlink()
    with pytest.raises(FileNotFoundError, match="rows"):
        writer.append(b"row")


def test_a_torn_frame_is_cut_off_of_a_file_that_was_opened_again(tmp_path, four_at_a_time, monkeypatch):
    writer = FrameWriter(tmp_path / "rows", b"first")
    writer.append(b"row")
    four_at_a_time.close(writer)

    def torn(descriptor, content):
        os.write(descriptor, content[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(frames, "write_all", torn)
        with pytest.raises(OSError, match="rows"):
            writer.append(b"lost")
    writer.append(b"later")
    assert read_frames(writer.path.read_bytes(), writer.path) == [b"first", b"row", b"later"]


def test_a_closed_writer_is_closed_whether_its_file_was_open_or_not(tmp_path):
    writers = [FrameWriter(tmp_path / str(number), b"first") for number in range(5)]
    for writer in writers[1:]:
        writer.append(b"row")
    for writer in writers:
        writer.close()
        writer.close()
        assert writer.closed
