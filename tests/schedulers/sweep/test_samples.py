import pytest

from selftune.hyperparameters.distribution import Choices, Integers, LogUniform, Uniform
from selftune.schedulers.sweep.samples import samples_of
from selftune.search import SearchSettings, SearchSpace, Swept
from selftune.search.searchers import SEARCHERS, GridSearch

OPTIONS = ("adam", None, 1, 1.0, True, [8, 8], {"name": "sgd"})
SPACE = SearchSpace(
    (
        Swept("rate", LogUniform(1e-4, 1e-1)),
        Swept("share", Uniform(0, 1)),
        Swept("width", Integers(1, 4)),
        Swept("kind", Choices(OPTIONS)),
        Swept("momentum", Uniform(0.5, 0.9), {"kind": ("adam",)}),
    )
)


def settings(searcher, mode="min", **more):
    return SearchSettings(
        metric="validation_loss", mode=mode, report_every=1, trials=1, searcher=SEARCHERS[searcher](), **more
    )


def kind(option):
    return f"{type(option).__name__} {option}"


def draw(samples, number):
    values = samples.draw(number)
    samples.tell(number, (values["share"] - 0.3) ** 2)
    return values


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_samples_come_from_their_distributions_and_conditions_hold(searcher):
    samples = samples_of(SPACE, settings(searcher))
    found = [draw(samples, number) for number in range(14 if searcher == "gp" else 40)]
    for values in found:
        assert 1e-4 <= values["rate"] <= 1e-1
        assert 0 <= values["share"] <= 1
        assert values["width"] in (1, 2, 3, 4)
        assert ("momentum" in values) == (values["kind"] == "adam")
    if searcher != "gp":  # too slow for as many
        assert {kind(values["kind"]) for values in found} == {kind(option) for option in OPTIONS}


@pytest.mark.parametrize("searcher", [name for name in SEARCHERS if name != "gp"])
def test_a_searcher_that_draws_again_what_was_drawn_goes_on_as_the_one_before(searcher):
    whole, new = (samples_of(SPACE, settings(searcher)) for _ in range(2))
    expected = [draw(whole, number) for number in range(24)]
    for number in range(12):
        new.redraw(number, expected[number])
        new.tell(number, (expected[number]["share"] - 0.3) ** 2)
    assert [draw(new, number) for number in range(12, 24)] == expected[12:]


def test_a_searcher_that_would_have_drawn_others_learns_what_was_drawn():
    space = SearchSpace((Swept("share", Uniform(0, 1)),))
    samples = samples_of(space, settings("tpe"))
    for number in range(30):  # as another version of Optuna might have drawn
        samples.redraw(number, {"share": number / 30})
        samples.tell(number, (number / 30 - 0.3) ** 2)
    found = [samples.draw(number)["share"] for number in range(30, 40)]
    assert sum(abs(share - 0.3) for share in found) / len(found) < 0.2


@pytest.mark.parametrize(("searcher", "mode"), [("tpe", "min"), ("tpe", "max"), ("gp", "max"), ("cmaes", "min")])
def test_those_that_learn_get_nearer_to_the_best(searcher, mode):
    space = SearchSpace((Swept("x", Uniform(0, 1)), Swept("y", LogUniform(1e-4, 1.0))))
    samples = samples_of(space, settings(searcher, mode))
    found, draws = [], 16 if searcher == "gp" else 40
    for number in range(draws):
        values = samples.draw(number)
        loss = (values["x"] - 0.3) ** 2
        samples.tell(number, loss if mode == "min" else -loss)
        found.append(abs(values["x"] - 0.3))
    last = found[10:]
    assert sum(last) / len(last) < 0.7 * sum(found[:10]) / 10


def test_a_failed_and_a_diverged_trial_do_not_end_the_search():
    samples = samples_of(SPACE, settings("tpe"))
    samples.draw(0)
    samples.tell(0, None, failed=True)
    samples.draw(1)
    samples.tell(1, None)
    assert "rate" in samples.draw(2)


def test_the_first_trials_are_as_given_and_the_rest_of_them_is_drawn():
    first = ({"share": 0.25, "kind": [8, 8]}, {"kind": True})
    samples = samples_of(SPACE, settings("random", first=first))
    one, two = samples.draw(0), samples.draw(1)
    assert (one["share"], one["kind"]) == (0.25, [8, 8])
    assert kind(two["kind"]) == kind(True)
    assert one["rate"] != two["rate"]


def test_a_grid_ends_and_has_each_combination_once():
    space = SearchSpace((Swept("a", Uniform(0, 1)), Swept("b", Choices(("x", "y")))))
    given = settings("random")
    samples = samples_of(space, SearchSettings(**{**given.__dict__, "searcher": GridSearch(3)}))
    found = [samples.draw(number) for number in range(6)]
    assert samples.draw(6) is None
    assert len({str(values) for values in found}) == 6
    assert found != sorted(found, key=str)
