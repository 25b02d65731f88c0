"""A study of which one trainer lies: what its folder, its report and its summary say of it."""

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from selftune.studies.folder import new_folder
from selftune.studies.mistakes import Mistakes
from selftune.studies.run import run
from selftune.studies.status import read_status
from selftune.studies.study_file import parse_study
from selftune.tracking.summary import read_summary
from selftune.tracking.trajectory import read_reports, read_trajectory
from selftune.training import Trainer

AGGREGATION = "  aggregation: {name: trimmed_mean, faulty: 1, offences: 3}\n"


@pytest.fixture
def text(study_text):
    return study_text.replace("  warmup_steps: 10\n", f"  warmup_steps: 10\n{AGGREGATION}").replace(
        "number: 1", "number: 4"
    )


@pytest.fixture
def liar(monkeypatch):
    """The third trainer sends nonsense, of another kind every time, until it is trained for 30 steps."""
    original = Trainer.execute

    def execute(self, order, warm=None):
        report = original(self, order, warm)
        found = getattr(report, "hypergradient", None)
        if self.member != 2 or found is None or report.training_step > 30 or order.estimator == "held":
            return report
        nonsense = torch.nan if report.training_step % 2 else 1e12
        return replace(
            report,
            measures=report.measures | {"validation_loss": nonsense},
            hypergradient=replace(found, hypergradient=torch.full_like(found.hypergradient, nonsense)),
        )

    monkeypatch.setattr(Trainer, "execute", execute)


@pytest.mark.usefixtures("liar")
def test_it_is_outvoted_named_excluded_and_started_again(text, tmp_path):
    study, console = parse_study(text), Console(file=io.StringIO(), width=200)
    folder = new_folder(study, tmp_path / "out", local=True)
    summary = run(study, folder, console, local=True, mlflow=False)
    first, excluded = (sentence for sentence in summary["warnings"] if "outvoted" in sentence)
    assert first == "tuned: trainer 2 was outvoted at hyper-step 0: its hypergradient is not finite"
    assert excluded == (
        "tuned: trainer 2 was outvoted at hyper-step 2: its hypergradient is not finite; it is excluded, to start"
        " again from the network of another trainer"
    )
    assert read_summary(folder)["warnings"] == summary["warnings"]
    assert first.removeprefix("tuned: ") in console.file.getvalue()
    page = (folder / "report.html").read_text()
    assert "outvoted 3 times, at last: trainer 2 was outvoted at hyper-step 2" in page
    assert first.removeprefix("tuned: ") in page
    assert summary["networks"]["tuned"] == 4
    assert read_status(folder).faults.outvoted == 3
    log = (folder / "logs" / "driver.log").read_text()
    for level, step in (("WARNING", 0), ("INFO", 1), ("WARNING", 2)):
        line = (
            f" {level} study=tiny team=- trainer=2 selftune.studies.run_log: trainer 2 was outvoted at hyper-step"
        )
        assert f"{line} {step}: " in log

    trajectory, table = read_trajectory(folder), read_reports(folder).to_pylist()
    assert (trajectory.validation_loss < 10).all()
    outvoted = [row for row in table if row["kind"] == "outvoted"]
    assert [(row["trainer"], row["training_step"]) for row in outvoted] == [(2, 15), (2, 20), (2, 25)]
    assert outvoted[1]["message"].startswith("trainer 2 was outvoted at hyper-step 1: its hypergradient is ")
    assert outvoted[0]["training_loss"] is not None  # the rest of its report is there
    ends = {row["trainer"]: row["training_step"] for row in table if row["kind"] == "finish"}
    assert ends == dict.fromkeys(range(4), 60)


@pytest.mark.parametrize(
    ("given", "number", "message"),
    [
        (
            "{name: krum, faulty: 1}",
            4,
            "method.aggregation: krum with faulty: 1 needs at least 5 trainers, got 4; set trainers.number to 5 or"
            " more, or name another aggregator",
        ),
        (
            "{name: bulyan, faulty: 2}",
            8,
            "method.aggregation: bulyan with faulty: 2 needs at least 11 trainers, got 8; set trainers.number to"
            " 11 or more, or name another aggregator",
        ),
        (
            "{name: krum, faulti: 1}",
            5,
            "method.aggregation.faulti: unknown setting of krum; did you mean faulty?",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(text, given, number, message):
    changed = text.replace(AGGREGATION, f"  aggregation: {given}\n").replace("number: 4", f"number: {number}")
    with pytest.raises(Mistakes) as error:
        parse_study(changed)
    assert str(error.value) == message


def test_the_mean_by_name_is_the_default(study_text):
    named = study_text.replace("  warmup_steps", "  aggregation: {name: mean_aggregation}\n  warmup_steps")
    assert parse_study(named).method == parse_study(study_text).method
