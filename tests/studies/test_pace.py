from selftune.studies.pace import Pace


def test_rates_are_those_of_the_last_minute():
    pace = Pace()
    for second in range(0, 300, 10):
        pace.at(float(second), 100 * second if second < 200 else 20_000 + 10 * (second - 200))
    assert pace.rates == (10.0,)


def test_nothing_is_said_before_a_second_has_passed():
    pace = Pace()
    assert pace.rates is None
    pace.at(0.0, 0)
    pace.at(0.5, 10)
    assert pace.rates is None
