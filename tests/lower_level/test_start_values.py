import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Interval, Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.language_modelling import LanguageModelling
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.start_values import Setup, with_starts
from selftune.regularization.regularizer import built_regularizers

ADAM = Optimization(batch_size=16, optimizer="adam", learning_rate=0.001)


def build():
    return nn.Linear(6, 3)


def objective(optimization=ADAM):
    generator = torch.Generator().manual_seed(0)
    splits = [(2 * torch.randn(n, 6, generator=generator), torch.arange(n) % 3) for n in (96, 48, 48)]
    return Classification(build, *splits, optimization)


def test_a_setup_knows_data_network_and_training():
    setup = Setup(objective(Optimization(batch_size=16, optimizer="adam", accumulate=4)), steps=200)
    assert (setup.examples, setup.parameters, setup.elements) == (96, 21, 1)
    assert (setup.updates, setup.examples_seen) == (50, 200 * 16)
    assert (setup.optimizer, setup.learning_rate) == ("adam", 0.01)
    assert setup.mean_square_input == pytest.approx(4.0, rel=0.1)


def test_frozen_parameters_do_not_count():
    def half_frozen():
        network = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
        network[0].requires_grad_(False)
        return network

    splits = [tuple(objective().data(split).values()) for split in ("train", "validation", "test")]
    assert Setup(Classification(half_frozen, *splits)).parameters == 5 * 3 + 3


def test_every_token_of_a_text_is_an_element():
    def language():
        return nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))

    splits = [torch.randint(0, 7, (n, 9)) for n in (32, 16, 16)]
    setup = Setup(LanguageModelling(language, *splits, Optimization(batch_size=8)))
    assert setup.elements == 8  # each token but the first is predicted


def test_the_first_gradient_is_that_of_an_untrained_network_and_leaves_random_numbers_alone():
    given = objective()
    before = torch.get_rng_state()
    found = Setup(given).gradient
    assert torch.equal(torch.get_rng_state(), before)
    assert found == Setup(given).gradient
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = given.network()
    batch = given.example(16, "train")
    F.cross_entropy(network(batch["inputs"]), batch["labels"]).backward()
    assert found == pytest.approx(network.weight.grad.square().mean().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("regularizers", "optimization", "steps", "message"),
    [
        (
            {"l1": {"strength": Tune("auto")}},
            ADAM,
            9,
            "l1.strength.start: no rule says where strength starts; give",
        ),
        (
            {"l1": {"strength": "auto"}},
            ADAM,
            9,
            "l1.strength: no rule says where strength starts; give l1.strength",
        ),
        (
            {"decoupled_weight_decay": {"strength": Tune("auto")}},
            Optimization(batch_size=16),
            9,
            "decoupled_weight_decay.strength.start: the rule for weight decay is that of Adam and AdamW, and the"
            " optimizer is sgd; give decoupled_weight_decay.strength a number",
        ),
        (
            {"weight_decay": {"strength": Tune("auto")}},
            ADAM,
            None,
            "weight_decay.strength.start: needs to know how long training is; give the budget in training steps",
        ),
        (
            {"label_smoothing": {"epsilon": Tune("auto", Interval(0.2, 0.5))}},
            ADAM,
            9,
            "label_smoothing.epsilon.start: the rule gives 0.1, but it must be a number in [0.2, 0.5]; give",
        ),
        ({"cutout": {"size": "auto"}}, ADAM, 9, "cutout.size: needs images; give cutout.size a number"),
    ],
)
def test_what_no_rule_gives_is_refused_in_a_sentence_that_names_it(regularizers, optimization, steps, message):
    with pytest.raises(SettingError) as refused:
        with_starts(built_regularizers(regularizers), objective(optimization), steps)
    assert str(refused.value).startswith(message)


def test_numbers_take_the_place_of_auto_and_the_given_regularizers_stay_as_they_are():
    domain = Interval(0.0, 0.5)
    given = built_regularizers(
        {"label_smoothing": {"epsilon": Tune("auto", domain)}, "mixup": {"alpha": "auto"}, "l1": {"strength": 0.1}}
    )
    started = with_starts(given, objective(), 100)
    assert [r.settings for r in started] == [{"epsilon": Tune(0.1, domain)}, {"alpha": 0.2}, {"strength": 0.1}]
    assert given[0].settings == {"epsilon": Tune("auto", domain)}
    assert started[2] is given[2]


def test_a_rule_sees_where_the_others_start():
    dropouts = [{}, {"rate": 0.05}, {"rate": Tune(0.05)}, {"rate": Tune({"a": 0.02, "b": 0.08})}, {"rate": Tune()}]
    found = [
        Setup(objective(), built_regularizers({"dropout": one})).start_of("dropout", "rate") for one in dropouts
    ]
    assert found == pytest.approx([0.5, 0.05, 0.05, 0.05, 0.5])
    automatic = built_regularizers({"dropout": {"rate": Tune("auto")}})
    assert Setup(objective(), automatic).start_of("dropout", "rate") is None
    assert Setup(objective()).start_of("dropout", "rate") is None
    assert math.isfinite(Setup(objective()).mean_square_input)
