"""An append-only file of byte strings, each with its length and checksum.

Three ways in which the last one can be incomplete are told apart from damage: a kill and a full disk leave a
shorter file, which is repaired; bytes that changed are noticed.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from selftune.storage.files import DamagedFile, replacing, write_all
from selftune.storage.open_files import OpenFiles

_MAGIC = b"selftune frames 1\n"
_HEAD = struct.Struct("<III")  # length of the content, its checksum, checksum of these two
_FILES = OpenFiles(most=128)  # a driver of ten thousand teams has twenty thousand tables


class FrameWriter:
    """Writes a file of frames that starts with one; the next are appended and handed to the operating system.

    It keeps no file open for itself: writers share those that a process opens.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "rows"
    >>> writer = FrameWriter(path, b"columns")
    >>> writer.append(b"row")
    >>> writer.close()
    >>> read_frames(path.read_bytes(), path)
    [b'columns', b'row']
    """

    def __init__(self, path: Path, first: bytes) -> None:
        self.path = path
        with replacing(path) as temporary:
            temporary.write_bytes(_MAGIC + _frame(first))
        self._length = path.stat().st_size
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def length(self) -> int:
        """Of the file, in bytes."""
        return self._length

    def append(self, content: bytes) -> None:
        """Adds a frame. No kill loses it once this returned; if this raises, the file is as it was.

        Raises:
            OSError: if it cannot be written, for example because the disk is full.
        """
        assert not self._closed
        frame = _frame(content)
        with _FILES.appending(self, self.path) as descriptor:
            try:
                write_all(descriptor, frame)
            except OSError as error:
                os.ftruncate(descriptor, self._length)  # no later frame may follow a torn one
                raise OSError(error.errno, os.strerror(error.errno or 0), str(self.path)) from error
        self._length += len(frame)

    def close(self) -> None:
        _FILES.close(self)
        self._closed = True


def read_frames(content: bytes, path: Path) -> list[bytes]:
    """The frames of a file's content; a last one that a kill cut short is left out.

    Args:
        path: of the file, for the message.

    Raises:
        DamagedFile: if bytes are not those that were written.
    """
    if not content.startswith(_MAGIC):
        raise DamagedFile(f"{path}: is damaged, or was written by another version of selftune")
    frames, at = [], len(_MAGIC)
    while len(content) - at >= _HEAD.size:
        length, checksum, of_head = _HEAD.unpack_from(content, at)
        if zlib.crc32(content[at : at + 8]) != of_head:
            raise DamagedFile(f"{path}: is damaged at byte {at}")
        begin = at + _HEAD.size
        if begin + length > len(content):
            break
        frame = content[begin : begin + length]
        if zlib.crc32(frame) != checksum:
            raise DamagedFile(f"{path}: is damaged at byte {begin}")
        frames.append(frame)
        at = begin + length
    return frames


def _frame(content: bytes) -> bytes:
    head = struct.pack("<II", len(content), zlib.crc32(content))
    return head + struct.pack("<I", zlib.crc32(head)) + content
