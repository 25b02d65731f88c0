import pickle

import pytest
import torch
from selftune.objectives.networks.table_mlp import TableMLP
from selftune.objectives.tasks.table import Table

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer


@pytest.fixture
def houses(tmp_path):
    file = tmp_path / "houses.csv"
    walls = ("brick", "wood", "stone")
    rows = [f"{40 + n % 23},{walls[n % 3]},{100 + 7.5 * (n % 23) + 20 * (n % 3)}" for n in range(120)]
    file.write_text("area,walls,price\n" + "\n".join(rows))
    return file


@pytest.mark.parametrize(
    ("dataset", "columns", "classes"),
    [("breast_cancer", 30, 2), ("wine", 13, 3), ("iris", 4, 3), ("digits", 64, 10), ("diabetes", 10, None)],
)
def test_bundled_tables_are_standardised_by_their_training_rows(dataset, columns, classes):
    task = Table(dataset, hidden=(8,), batch_size=16)
    inputs = task.splits()["train"]["inputs"]
    assert inputs.shape[1] == columns
    assert inputs.mean(dim=0).abs().max() < 1e-4
    spread = inputs.std(dim=0, correction=0)
    assert (((spread - 1).abs() < 1e-4) | (spread < 1e-4)).all()
    assert getattr(task, "classes", None) == classes
    assert ("classes" in task.provides) is (classes is not None)


def test_a_number_is_predicted_in_units_of_its_deviation():
    task = Table("diabetes", hidden=(8,))
    labels = task.splits()["train"]["labels"]
    constant = task.constant_answer()
    assert float(task.loss(constant.expand(len(labels)), labels).mean()) == pytest.approx(1, abs=1e-4)
    assert set(task.metrics(labels, labels)) == {"squared_error", "absolute_error", "r_squared"}
    Trainer(task, [regularizers["mixup"]()], steps=1)
    with pytest.raises(SettingError, match="label_smoothing"):
        Trainer(task, [regularizers["label_smoothing"]()], steps=1)


def test_categories_are_embedded(houses):
    task = Table(str(houses), target="price", hidden=(8,), batch_size=16)
    train = task.splits()["train"]
    assert train["categories"].dtype == torch.int64
    inputs = task.inputs(train)
    assert inputs.shape[1] == 1 + 3
    assert torch.equal(inputs[:, 1:].argmax(dim=1), train["categories"][:, 0])
    assert torch.equal(inputs[:, 1:].sum(dim=1), torch.ones(len(inputs)))
    members = [regularizers["weight_decay"](strength=Tune(1e-3), parts="layer"), regularizers["mixup"]()]
    names = Trainer(pickle.loads(pickle.dumps(task)), members, steps=1).space.names
    assert [name.partition("[")[2] for name in names] == [
        "embeddings.0]",
        "perceptron.hidden1]",
        "perceptron.output]",
    ]


def test_an_embedding_is_that_of_a_lookup():
    torch.manual_seed(0)
    network = TableMLP(1, (5, 2), 3, hidden=(), embedding=2)
    codes = torch.tensor([[4, 1], [0, 0]])
    ones = [torch.eye(size)[codes[:, place]] for place, size in enumerate((5, 2))]
    rows = torch.cat([torch.tensor([[0.5], [2.0]]), *ones], dim=1)
    looked_up = [layer.weight.T[codes[:, place]] for place, layer in enumerate(network.embeddings)]
    expected = network.perceptron(torch.cat([rows[:, :1], *looked_up], dim=1))
    torch.testing.assert_close(network(rows), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "breast_cancr"}, "dataset: breast_cancr is no file.* did you mean breast_cancer"),
        ({"target": "x"}, "target: is for a table in a file, and breast_cancer is none"),
        ({"hidden": (0,)}, "hidden: every layer needs at least one unit"),
        ({"embedding": 0}, "embedding: must be at least 1"),
        ({"split": {"validation": 2.0}}, "split: the fraction for validation"),
        ({"batch_size": 500}, "batch_size"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Table(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "target: is missing; name the column"),
        ({"target": "cost"}, "target: .*cost"),
        ({"target": "price", "kind": "classification"}, "kind: .* fractions"),
    ],
)
def test_wrong_settings_of_files_are_refused(houses, settings, message):
    with pytest.raises(SettingError, match=message):
        Table(str(houses), **settings)


def test_a_file_that_is_no_table_is_named_under_the_key_of_the_setting(tmp_path):
    file = tmp_path / "empty.csv"
    file.write_text("")
    with pytest.raises(SettingError, match=r"^dataset: .*empty\.csv"):
        Table(str(file), target="x")
