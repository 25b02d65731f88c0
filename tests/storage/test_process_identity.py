import os
import subprocess
import sys

from selftune.storage.process_identity import birth


def test_a_process_that_has_ended_is_none_although_nobody_has_asked_for_its_status():
    assert birth(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert birth(child.pid) == ""
    child.wait()
