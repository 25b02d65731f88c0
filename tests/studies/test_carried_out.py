import pytest

from selftune.errors import Stopped
from selftune.studies.carried_out import carried_out
from selftune.studies.stopping import Interrupted
from selftune.studies.study_failed import StudyFailed


def raises(error):
    raise error


def test_a_run_that_ends_gives_what_it_found(tmp_path):
    assert carried_out(tmp_path, lambda: {"status": "finished"}) == {"status": "finished"}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            StudyFailed("no trainer got to its end"),
            "to its end; what was recorded until then",
        ),
        (OSError(28, "No space left on device"), "mend that and go on with `selftune resume"),
    ],
)
def test_a_run_that_fails_says_why_in_one_sentence(tmp_path, capsys, error, says):
    assert carried_out(tmp_path, lambda: raises(error)) is None
    assert says in capsys.readouterr().err


def test_a_run_that_is_interrupted_says_how_to_go_on(tmp_path):
    with pytest.raises(Interrupted, match="go on with `selftune resume"):
        carried_out(tmp_path, lambda: raises(KeyboardInterrupt()))


def test_a_run_that_is_stopped_says_where_and_keeps_its_exit_status(tmp_path):
    with pytest.raises(Stopped, match="stopped after 3 hyper-steps; go on with `selftune resume") as stopped:
        carried_out(tmp_path, lambda: raises(Stopped("after 3 hyper-steps", 143)))
    assert stopped.value.status == 143
