import pytest
from ray import cloudpickle

from selftune.errors import SettingError
from selftune.schedulers import SelfTuningScheduler


def test_settings_reach_the_method():
    scheduler = SelfTuningScheduler(steps=30, team_size=3, learning_rate=0.2, warmup_steps=7)
    method = scheduler.make_method()
    assert method.settings.learning_rate == 0.2
    assert method.settings.warmup_steps == 7
    assert method.team_size == 3
    assert method.budget.steps == 30


def test_an_unknown_setting_is_refused_with_the_close_one():
    with pytest.raises(SettingError, match="warmup_step: unknown setting; did you mean warmup_steps"):
        SelfTuningScheduler(steps=30, warmup_step=7)


def test_the_budget_is_needed():
    with pytest.raises(SettingError, match="give either steps or seconds"):
        SelfTuningScheduler()


def test_scheduler_and_callback_stay_one_pair_when_pickled():
    scheduler = SelfTuningScheduler(steps=3000)
    config = scheduler.run_config()
    again, callback = cloudpickle.loads(cloudpickle.dumps((scheduler, config.callbacks[0])))
    assert callback._scheduler is again


def test_own_settings_of_a_run_win():
    config = SelfTuningScheduler(steps=3000).run_config(name="mine", failure_config=None)
    assert config.name == "mine"
    assert config.checkpoint_config.num_to_keep == 3
