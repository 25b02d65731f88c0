"""Files of this process that cannot grow, as on a disk that is full."""

import resource
import signal
from contextlib import contextmanager


@contextmanager
def files_up_to(size):
    """Within the context no file of this process becomes larger than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
