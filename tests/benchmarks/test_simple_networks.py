"""The benchmark of well-tuned simple networks gives every method the same, and looks at the test split last."""

from pathlib import Path

import pytest
import simple_networks
import torch
import yaml
from cells import CellRecords
from selftune.objectives.tasks.table import Table
from simple_networks import COCKTAIL, METHOD, METHODS, measured, starting_at, study_of
from small_tables import TABLES, objective

from selftune.methods.reports import Diverged
from selftune.training import Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_every_class_in_every_split(name, folder):
    content = objective(name, folder, 3)
    assert content.pop("task") == "table"
    table = Table(**content)
    splits = table.splits()
    assert {len(torch.unique(split["labels"])) for split in splits.values()} == {table.classes}
    assert sum(len(split["labels"]) for split in splits.values()) >= 150


def test_all_strengths_of_the_cocktail_are_tuned_from_where_a_sample_says(folder):
    assert len(COCKTAIL) >= 13
    study = study_of("wine", folder, 0, 100)
    assert {name.split(".")[0] for name in study.space.names} == set(COCKTAIL)
    values = {name: 0.01 * (1 + number) for number, name in enumerate(study.space.names)}
    again = study_of("wine", folder, 0, 100, starting_at(values))
    assert again.space.constrain(again.space.start).tolist() == pytest.approx(list(values.values()), rel=1e-4)


@pytest.mark.parametrize("method", [method for method in METHODS if "boosting" not in method])
def test_every_method_has_the_same_training_steps(method, folder, monkeypatch):
    steps, ends = [], []
    execute = Trainer.execute

    def counted(self, order, warm=None):
        before = self.training_step
        report = execute(self, order, warm)
        steps.append(self.training_step - before)
        ends.append(self.training_step)
        return report

    monkeypatch.setattr(Trainer, "execute", counted)
    records, cell = CellRecords(folder), {"table": "iris", "method": method, "seed": 0}
    if method == "tpe_again":
        values = {name: 0.1 for name in study_of("iris", folder, 0, 50).space.names}
        records.write({**cell, "method": "tpe"}, {"values": values}, 0.0)
    found = measured(cell, records, trials=2, steps=50)
    assert sum(steps) == 100
    assert max(ends) == (50 if method in ("random", "tpe", "tuned_starts") else 100)
    assert {"validation_loss", "test_loss", "test_accuracy", "training_step"} <= found.keys()


@pytest.mark.parametrize("method", ["boosting", "boosting_tuned"])
def test_boosting_sees_the_same_splits(method, folder, monkeypatch):
    monkeypatch.setattr(simple_networks, "EARLY", simple_networks.EARLY[:2])
    found = measured({"table": "iris", "method": method, "seed": 0}, CellRecords(folder), trials=1, steps=50)
    assert 0 < found["test_loss"] < 2
    assert found["test_accuracy"] * 30 == pytest.approx(round(found["test_accuracy"] * 30))


def test_a_network_that_diverges_at_once_is_the_worst(folder):
    study = study_of("iris", folder, 0, 50)
    trainer = study.strategy.trainers(0)(0)
    diverged = Diverged(number=0, training_step=1, message="the training loss is nan")
    assert simple_networks.best_of(study, trainer, iter([diverged]))["validation_loss"] == float("inf")


def test_the_page_shows_the_cocktail_that_was_measured():
    page = (Path(__file__).parents[2] / "docs" / "simple-networks.md").read_text()
    study = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    assert study["regularizers"] == COCKTAIL
    assert study["method"] == {**METHOD, "warmup_steps": 200}
