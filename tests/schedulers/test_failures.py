from selftune.schedulers.failures import last_failure

TRACEBACK = """Failure # 1 (occurred at 2026-01-01_00-00-00)
The actor died because its node has died.
Failure # 2 (occurred at 2026-01-01_00-00-09)
ray::Trainer.train() (pid=1)
  File "trainer.py", line 3, in execute
ArithmeticError: the toy broke
"""


def test_an_exception_is_named_by_its_last_line(tmp_path):
    path = tmp_path / "error.txt"
    path.write_text(TRACEBACK)
    assert last_failure(path) == "ArithmeticError: the toy broke"


def test_a_dead_worker_is_named_by_the_first_line_of_its_last_failure(tmp_path):
    path = tmp_path / "error.txt"
    path.write_text(TRACEBACK + "Failure # 3 (now)\nThe actor died unexpectedly.\n\tclass_name: Trainer\n")
    assert last_failure(path) == "The actor died unexpectedly."


def test_no_file_means_that_the_worker_died(tmp_path):
    assert last_failure(tmp_path / "error.txt") == "its worker died"
    assert last_failure(None) == "its worker died"
