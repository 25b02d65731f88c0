from ray.tune.utils.callback import _create_default_callbacks

from selftune.schedulers.silent_progress import SilentProgress


class Trial:
    last_result = {"training_iteration": 1}  # noqa: RUF012


def test_tune_adds_no_progress_of_its_own_beside_it_and_it_says_nothing(monkeypatch, capsys):
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    silent = SilentProgress()
    assert _create_default_callbacks([silent], air_verbosity=None) == [silent]
    for hook in (silent.on_trial_result, silent.on_trial_error, silent.on_trial_complete):
        hook(0, [], Trial(), result={})
    assert capsys.readouterr().out == ""
