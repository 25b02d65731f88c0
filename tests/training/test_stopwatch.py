import threading

from selftune.training.stopwatch import Stopwatch


def test_what_a_process_waits_for_is_not_computed():
    watch, idle = Stopwatch("cpu"), Stopwatch("cuda")
    threading.Event().wait(0.2)
    assert watch.taken() < 0.1
    assert idle.taken() >= 0.2
