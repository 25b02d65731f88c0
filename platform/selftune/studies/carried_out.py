"""A command that runs what a folder holds, and says how it ended where that was not its end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from selftune.errors import Stopped
from selftune.studies.mistakes import printable
from selftune.studies.stopping import Interrupted
from selftune.studies.study_failed import StudyFailed

T = TypeVar("T")


def carried_out(folder: Path, run: Callable[[], T]) -> T | None:
    """What ``run`` returns; None if it failed, which is said in one sentence.

    Args:
        folder: that of the run, with which it can go on.

    Raises:
        Stopped: after a request, or SIGTERM, with the way to go on.
        Interrupted: after SIGINT, or a SIGTERM that could not wait, with the way to go on.
    """
    try:
        return run()
    except StudyFailed as error:
        sentence = f"{error}; what was recorded until then is in {folder}"
    except OSError as error:  # a full disk, a network drive that went away
        sentence = f"{error}; mend that and go on with `selftune resume {folder}`"
    except Stopped as error:
        where = f" {error}" if str(error) else ""
        raise Stopped(
            f"stopped{where}; go on with `selftune resume {folder}`", error.status, error.until
        ) from error
    except KeyboardInterrupt as error:
        raise Interrupted(f"go on with `selftune resume {folder}`") from error
    print(printable(f"selftune: {sentence}"), file=sys.stderr, flush=True)
    return None
