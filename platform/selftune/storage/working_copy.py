"""A folder on this machine in place of one in a store: a run works in it as ever, and the store follows."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selftune.errors import SettingError
from selftune.storage.files import replacing
from selftune.storage.lease import FOLDER, Lease, LeaseLost
from selftune.storage.mirror import EVERY, Mirror, fetch
from selftune.storage.remote_folder import RemoteFolder

logger = logging.getLogger(__name__)

COPY = ".copy"
"""Beside the copy: which owners of the remote folder it may be of."""
_LAST = f"{FOLDER}/last"
"""In the remote folder: which owner was the last one."""


class UploadFailed(RuntimeError):
    """The store did not get all of a run; the message says where the rest is, and what to do."""


def place_of(remote: RemoteFolder, what: str = "runs") -> Path:
    """Where on this machine the copy of a remote folder is: below ``$XDG_CACHE_HOME/selftune``.

    >>> place_of(RemoteFolder("memory://example/digits-1")).name
    'digits-1'
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = re.sub(r"[^\w.-]", "_", remote.name)
    return cache / "selftune" / what / hashlib.sha256(remote.shown.encode()).hexdigest()[:12] / name


@contextmanager
def working_copy(
    remote: RemoteFolder,
    asked: Callable[[Path], None],
    patience: Callable[[BaseException | None], float],
    every: float = EVERY,
    outlives: bool = False,
) -> Iterator[Path]:
    """Within the context this process, and no other, may change a remote folder, through a copy of it.

    The copy begins as the remote folder is; that of an earlier process on this machine is used again if nobody
    else wrote there since, for it may be newer. What changes in it is brought to the store all the time, and at
    the end, whatever that is.

    Args:
        asked: is called with the copy when the owner is asked from elsewhere to stop, or has to.
        patience: seconds that the store may take at the end, given the error that ended the block.
        every: seconds between two looks at what has changed.
        outlives: wait for an owner on another machine that may be gone.

    Raises:
        SettingError: if another process has the folder, or the store or this machine refuses; nothing has begun.
        UploadFailed: if the block has ended well, and the store could not be given all of it.
    """
    lease = Lease(remote)
    try:
        if outlives:
            lease.outlive()
        lease.acquire()
    except OSError as error:
        raise SettingError("", str(error)) from None
    try:
        folder = place_of(remote)
        try:
            known = _brought(remote, folder, lease.token)
        except OSError as error:
            raise SettingError("", str(error)) from None
        mirror = Mirror(folder, remote, lease.check, known, every)

        def lost(error: LeaseLost) -> None:
            logger.error("%s; this one ends", error)
            mirror.lost = error
            asked(folder)

        with lease.kept(lambda: asked(folder), lost):
            mirror.start()
            try:
                yield folder
            except BaseException as error:
                _finish(mirror, remote, folder, patience(error), is_over=True)
                raise
            else:
                _finish(mirror, remote, folder, patience(None))
            finally:
                if not any(folder.iterdir()):  # nothing began
                    _forget(remote, folder)
    finally:
        lease.release()


def _forget(remote: RemoteFolder, folder: Path) -> None:
    with suppress(OSError):
        remote.delete(_LAST)
        folder.with_name(COPY).unlink()


def _finish(mirror: Mirror, remote: RemoteFolder, folder: Path, seconds: float, is_over: bool = False) -> None:
    if mirror.finish(seconds):
        return
    if mirror.lost is not None:
        message = f"{mirror.lost}; what this one wrote meanwhile is in {folder}"
    else:
        reason = mirror.error or f"{remote.shown}: the store was too slow"
        message = (
            f"{reason}; the end of the run is in {folder}, and `selftune resume {remote.shown}` brings it over"
        )
    if not is_over:
        raise UploadFailed(message)
    logger.warning("%s", message)


def _brought(remote: RemoteFolder, folder: Path, token: str) -> list[str]:
    """Makes the copy, and returns which of its files the store has as they are here."""
    try:
        last = remote.read(_LAST).decode()
    except FileNotFoundError:
        last = ""
    copy = folder.with_name(COPY)
    known: list[str] = []
    for left in folder.parent.glob(f".{folder.name}.*"):  # of a mirror that was killed
        shutil.rmtree(left, ignore_errors=True)
    owners = copy.read_text().split() if copy.is_file() and folder.is_dir() else []
    if last not in owners:
        copy.unlink(missing_ok=True)
        known = fetch(remote, folder)
    with replacing(copy) as temporary:  # the store may fail now: the copy is then that of the owner before
        temporary.write_text(f"{last} {token}")
    remote.write(_LAST, token.encode())
    return known
