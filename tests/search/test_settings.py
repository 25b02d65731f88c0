import pytest

from selftune.errors import SettingError
from selftune.search import SearchSettings
from selftune.search.searchers import SEARCHERS
from selftune.search.trial_schedulers import TRIAL_SCHEDULERS, AshaSettings, PbtSettings

GIVEN = {"metric": "validation_loss", "mode": "min", "report_every": 10}


def test_every_searcher_and_scheduler_has_settings_that_a_search_takes():
    for searcher in SEARCHERS.values():
        for scheduler in TRIAL_SCHEDULERS.values():
            settings = SearchSettings(**GIVEN, trials=2, searcher=searcher(), scheduler=scheduler())
            assert (settings.searcher, settings.scheduler) == (searcher(), scheduler())


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: SearchSettings(**GIVEN), "trials"),
        (lambda: SearchSettings(**GIVEN, trials=0), "trials"),
        (lambda: SearchSettings(**GIVEN, seconds=0.0), "seconds"),
        (lambda: SearchSettings(**GIVEN, steps=1.5), "steps"),
        (lambda: AshaSettings(reduction_factor=1), "reduction_factor"),
        (lambda: PbtSettings(quantile=0.6), "quantile"),
        (lambda: PbtSettings(resample=-0.1), "resample"),
    ],
)
def test_what_is_out_of_range_is_refused_by_its_key(make, key):
    with pytest.raises(SettingError) as error:
        make()
    assert error.value.key == key
