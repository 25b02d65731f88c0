"""Trainers on data that are not tensors in memory."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from selftune import Classification, FunctionObjective, LanguageModelling, Optimization
from selftune.data.loading import Loading
from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.storage.state_tree import packed
from selftune.studies.tune import tune
from selftune.training import Trainer

X = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
Y = (X.sum(dim=1) > 0).long()
TENSORS = [(X[part], Y[part]) for part in (slice(0, 70), slice(70, 95), slice(95, 120))]
SETS = [TensorDataset(*pair) for pair in TENSORS]


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def objective(splits, **settings):
    return Classification(network, *splits, Optimization(batch_size=10), **settings)


def loaders(kind=DataLoader):
    return [kind(data, batch_size=10, shuffle=number == 0) for number, data in enumerate(SETS)]


def tuned(splits, regularizers=None, steps=40, **settings):
    return tune(
        objective(splits, **settings),
        regularizers or {"dropout": {"rate": Tune(0.1)}},
        steps=steps,
        warmup_steps=10,
        progress=False,
    )


def same(one, other):
    weights, others = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(weights[name], others[name]) for name in weights) and one.metrics == other.metrics


@pytest.mark.parametrize("loading", [Loading(), Loading(workers=1), Loading(memory="1MB")])
def test_a_data_set_is_tuned_as_the_same_tensors_to_the_last_bit(loading):
    assert same(tuned(SETS, loading=loading), tuned(TENSORS, validation_batch_size=10))


def test_tables_per_example_are_those_of_tensors():
    table = {"temporal_ensembling": {"beta": Tune(0.5)}}
    assert same(tuned(SETS, table), tuned(TENSORS, table, validation_batch_size=10))


def test_a_loader_is_tuned_twice_alike():
    assert same(tuned(loaders()), tuned(loaders()))


def test_tables_per_example_are_refused_where_examples_have_no_positions():
    with pytest.raises(SettingError, match=r"temporal_ensembling needs index.*give a Dataset"):
        tuned(loaders(), {"temporal_ensembling": {"beta": Tune(0.5)}})


def test_a_method_that_takes_examples_by_position_refuses_a_loader():
    with pytest.raises(SettingError, match="validation: must be tensors or a Dataset"):
        tune(
            objective(loaders()),
            {"weight_decay": {"strength": Tune(1e-3)}},
            method="inexact_line_search",
            steps=40,
            warmup_steps=10,
            validation_samples=30,
            progress=False,
        )


def kinds():
    yield "loader", loaders
    yield "stateful", lambda: loaders(pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader)
    yield "data set", lambda: SETS


@pytest.mark.parametrize(("name", "splits"), kinds())
def test_a_run_goes_on_where_it_stopped(name, splits):
    def trainer():
        return Trainer(objective(splits()), [regularizers["weight_decay"](strength=1e-3)], seed=3)

    def steps(trainer, number):
        return trainer.execute(FollowSchedule(segments=((number, torch.empty(0)),)))

    straight, first, second = trainer(), trainer(), trainer()
    steps(straight, 11)
    steps(first, 4)
    saved = copy.deepcopy(first.state_dict())
    packed(saved, {})  # a file can hold it
    second.load_state_dict(saved)
    steps(second, 7)
    wanted, found = (t.lower.network.state_dict() for t in (straight, second))
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)


class Many(Dataset):
    """More examples than the stated memory holds, each made when it is read."""

    def __len__(self):
        return 20_000

    def __getitem__(self, position):
        x = torch.randn(4, generator=torch.Generator().manual_seed(position))
        return x, int(x.sum() > 0)


def test_data_that_the_stated_memory_does_not_hold_are_trained_on():
    result = tuned([Many(), *SETS[1:]], loading=Loading(memory="100KB"), steps=60)
    assert result.metrics["validation_accuracy"] > 0.6


class Windows(Dataset):
    """Windows of a text that is never cut as a whole."""

    text = torch.frombuffer(
        bytearray(b"to be, or not to be, that is the question: " * 20), dtype=torch.uint8
    ).long()

    def __len__(self):
        return len(self.text) - 17

    def __getitem__(self, position):
        return self.text[position : position + 17]


@pytest.mark.filterwarnings("ignore:.*shares .* with the training data")  # the text repeats itself
def test_a_language_model_learns_from_windows_of_a_text():
    objective = LanguageModelling(
        lambda: nn.Sequential(nn.Embedding(128, 16), nn.Linear(16, 128)),
        Windows(),
        Subset(Windows(), range(0, 200, 7)),
        Subset(Windows(), range(0, 200, 11)),
        Optimization(batch_size=16, learning_rate=1.0),
    )
    result = tune(
        objective,
        {"weight_decay": {"strength": Tune(1e-4)}},
        steps=120,
        warmup_steps=40,
        progress=False,
    )
    assert result.metrics["validation_accuracy"] > 0.3


def of_functions(train, validation, **settings):
    return FunctionObjective(
        network,
        lambda outputs, batch: nn.functional.cross_entropy(outputs, batch[1], reduction="none"),
        train,
        validation,
        forward=lambda network, batch: network(batch[0]),
        optimization=Optimization(batch_size=10),
        **settings,
    )


def test_functions_of_outputs_and_batch_take_data_sets_and_loaders():
    results = [
        tune(
            of_functions(*splits, **settings),
            {"dropout": {"rate": Tune(0.1)}},
            steps=40,
            warmup_steps=10,
            progress=False,
        )
        for splits, settings in (
            (TENSORS[:2], {"validation_batch_size": 10}),
            (SETS[:2], {}),
            (loaders()[:2], {}),
        )
    ]
    assert same(*results[:2])
    assert results[2].metrics.keys() == results[0].metrics.keys() == {"validation_loss", "validation_accuracy"}


def test_weights_of_training_examples_are_tuned_from_a_data_set():
    results = [
        tune(
            objective(splits, **settings).with_values(example_weights=Tune(0.9)),
            steps=40,
            warmup_steps=10,
            method="implicit",
            progress=False,
        )
        for splits, settings in ((TENSORS, {"validation_batch_size": 10}), (SETS, {}))
    ]
    assert same(*results)
    with pytest.raises(SettingError, match="do not say which examples"):
        objective(loaders()).with_values(example_weights=Tune(0.9))


class Failing(Dataset):
    """Data that cannot be read any more after so many examples."""

    def __init__(self, data):
        self.data, self.left = data, 10**9

    def __len__(self):
        return len(self.data)

    def __getitem__(self, position):
        self.left -= 1
        if self.left < 0:
            raise OSError("the disk is gone")
        return self.data[position]


@pytest.mark.parametrize("form", ["data set", "loader"])
def test_a_call_that_was_cut_off_goes_on_from_its_checkpoint(form, tmp_path):
    def call(data, output):
        train = data if form == "data set" else DataLoader(data, batch_size=10, shuffle=True)
        return tune(
            objective([train, *SETS[1:]]),
            {"dropout": {"rate": Tune(0.1)}},
            steps=120,
            warmup_steps=20,
            checkpoint_every=2,
            output=tmp_path / output,
            progress=False,
        )

    whole, failing, later = (Failing(SETS[0]) for _ in range(3))
    straight = call(whole, "straight")
    failing.left = 1000
    with pytest.raises(OSError, match="the disk is gone"):
        call(failing, "cut")
    assert same(call(later, "cut"), straight)
    assert later.left > whole.left + 500  # what came before was not trained on again
