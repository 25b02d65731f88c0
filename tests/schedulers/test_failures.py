import pytest

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


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID:"
            " 182ad9) was 5.50GB used / 23.54GB limit (0.23)\nOOM kill reason: Memory usage exceeded\n",
            "the memory of its machine is full; ",
        ),
        ('  File "trainer.py", line 3, in execute\nMemoryError\n', "the memory of its machine is full; "),
        (
            '  File "trainer.py", line 3, in execute\nRuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0.'
            " DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000000 bytes.\n",
            "the memory of its machine is full; ",
        ),
        (
            '  File "trainer.py", line 3, in execute\ntorch.OutOfMemoryError: CUDA out of memory. Tried to'
            " allocate 20.00 MiB.\n",
            "the GPU's memory is full; ",
        ),
    ],
)
def test_memory_that_ran_out_is_named_as_such(said, words, tmp_path):
    path = tmp_path / "error.txt"
    path.write_text(f"Failure # 1 (now)\n{said}")
    assert last_failure(path).startswith(words)


def test_no_file_means_that_the_worker_died(tmp_path):
    assert last_failure(tmp_path / "error.txt") == "its worker died"
    assert last_failure(None) == "its worker died"
