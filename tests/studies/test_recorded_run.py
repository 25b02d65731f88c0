import pytest
from rich.console import Console

from selftune.studies.mistakes import UserError
from selftune.studies.recorded_run import recorded_run
from selftune.tracking.summary import read_summary

TEXT = "study: small"


def run(folder):
    return recorded_run(folder, {"name": "small"}, TEXT, Console(), local=True, mlflow=False)


def test_the_summary_says_at_any_time_how_far_a_run_is(tmp_path):
    with run(tmp_path) as recorded:
        assert read_summary(tmp_path)["status"] == "running"
        recorded.keep({**recorded.summary, "training_steps": 5})
    summary = read_summary(tmp_path)
    assert (summary["name"], summary["status"], summary["training_steps"]) == ("small", "finished", 5)


@pytest.mark.parametrize(
    ("error", "status"), [(ArithmeticError("a bug"), "failed"), (KeyboardInterrupt("stopped"), "interrupted")]
)
def test_a_run_that_breaks_off_says_why_and_keeps_what_it_had(tmp_path, error, status):
    def breaks_off():
        with run(tmp_path) as recorded:
            recorded.keep({**recorded.summary, "training_steps": 5})
            recorded.summary = {**recorded.summary, "training_steps": 7}  # not kept
            raise error

    with pytest.raises(type(error)):
        breaks_off()
    summary = read_summary(tmp_path)
    assert (summary["status"], summary["message"], summary["training_steps"]) == (status, str(error), 5)
    with run(tmp_path) as recorded:
        assert recorded.summary["training_steps"] == 5
    assert "message" not in read_summary(tmp_path)


def test_two_processes_never_run_one_folder(tmp_path):
    with run(tmp_path), pytest.raises(UserError, match="another process is running this study"), run(tmp_path):
        pytest.fail("ran twice")
    assert read_summary(tmp_path)["status"] == "finished"
