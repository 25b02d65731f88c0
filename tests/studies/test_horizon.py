"""Whether a study says that its last values, held from the start, do better: when they do, and only then."""

import io
import json
import re
from pathlib import Path

import pytest
from planted_task import FALLING, LATE, TwoWeightsTask
from rich.console import Console

from selftune import SettingError, Tune, tune
from selftune.cli import main
from selftune.lower_level.objective import tasks
from selftune.methods.reports import TrainingFinished
from selftune.schedule import Schedule
from selftune.studies.driver import DriverSettings
from selftune.studies.folder import new_folder, open_folder
from selftune.studies.horizon import END, SCHEDULE, SETTLED, horizon_of
from selftune.studies.mistakes import Mistakes
from selftune.studies.replay import replay
from selftune.studies.results import print_summary
from selftune.studies.run import run
from selftune.studies.study_file import parse_study
from selftune.sweeps.comparison.comparison import comparison_of
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings
from selftune.sweeps.sweep_file import parse_sweep

WARNING = "fixed values at the end do better"


@pytest.fixture(scope="module", autouse=True)
def planted():
    tasks.names()
    tasks._entries["two_weights"] = TwoWeightsTask
    yield
    del tasks._entries["two_weights"]


def ran(text, folder, **settings):
    study = parse_study(text)
    new_folder(study, folder, local=True)
    return run(study, folder, Console(file=io.StringIO()), local=True, mlflow=False, **settings)


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    folder = tmp_path_factory.mktemp("late") / "out"
    return folder, ran(LATE, folder)


@pytest.fixture(scope="module")
def falling(tmp_path_factory):
    folder = tmp_path_factory.mktemp("falling") / "out"
    return folder, ran(FALLING, folder)


def shown(folder, summary):
    text = io.StringIO()
    print_summary(Console(file=text, width=300), summary, folder, mlflow=False)
    return text.getvalue()


def test_a_study_says_that_its_last_values_held_do_better(late):
    folder, summary = late
    found = summary["horizon"]
    assert found["results"][END]["validation_loss"] < 0.9 * found["results"][SCHEDULE]["validation_loss"]
    assert found["networks"] == {SCHEDULE: 2, END: 2}
    assert found["training_steps"] == 60
    assert found["held_is_better"]
    assert found["sentence"] in summary["warnings"]
    assert json.loads((folder / "summary.json").read_text())["warnings"] == summary["warnings"]
    assert f"warning {WARNING}: " in shown(folder, summary)
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert report.count("Fixed values at the end do better: ") == 1


def test_it_does_not_where_the_schedule_does_better(falling):
    folder, summary = falling
    found = summary["horizon"]
    assert set(found["results"]) == {SCHEDULE, END, SETTLED}
    assert found["results"][END]["validation_loss"] > 1.1 * found["results"][SCHEDULE]["validation_loss"]
    assert not found["held_is_better"]
    assert not any(WARNING in warning for warning in summary["warnings"])
    assert "horizon the schedule does better than fixed values: " in shown(folder, summary)
    assert WARNING not in (folder / "report.html").read_text(encoding="utf-8").lower()


def test_a_finished_study_is_asked_afterwards(late, capsys):
    folder, summary = late
    before = (folder / "summary.json").read_bytes()
    assert main(["replay", str(folder), "--seeds", "2", "--average", "0.25"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Fixed values at the end do better: " in said
    assert "with its mean held at the end" in said
    assert (folder / "summary.json").read_bytes() == before
    loss = json.loads((folder / "replay.json").read_text())["results"][END]["validation_loss"]
    assert loss == pytest.approx(summary["horizon"]["results"][END]["validation_loss"], rel=0.1)


def test_a_share_of_the_steps_is_no_replay_of_the_study_and_nothing_is_kept_of_it(falling):
    folder, _ = falling
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = replay(folder, Console(file=io.StringIO()), share=0.5)
    schedule = Schedule.load(folder).stretched(50)
    schedule.save(folder.parent / "half.json")
    again = replay(folder, Console(file=io.StringIO()), schedule=folder.parent / "half.json")
    assert found.results == again.results
    assert found.verdict.startswith("more seeds say which of them does better: ")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_study_that_is_stopped_while_it_looks_back_goes_on_to_the_same_verdict(late, tmp_path, monkeypatch):
    from selftune.studies import horizon

    def stopped(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(horizon, "horizon_of", stopped)
        with pytest.raises(KeyboardInterrupt):
            ran(LATE, tmp_path / "out", driving=DriverSettings())
    study, summary = open_folder(tmp_path / "out")
    assert "horizon" not in summary
    assert summary["status"] == "interrupted"
    again = run(study, tmp_path / "out", Console(file=io.StringIO()), local=True, mlflow=False)
    assert again["horizon"] == late[1]["horizon"]
    assert again["warnings"] == late[1]["warnings"]


def reports(**losses):
    kinds = {"schedule": SCHEDULE, "held": END}
    return {
        kinds[kind]: {
            number: TrainingFinished(
                training_step=9, measures={"validation_loss": loss, "validation_accuracy": 1 - loss}
            )
            for number, loss in enumerate(values)
        }
        for kind, values in losses.items()
    }


@pytest.mark.parametrize(
    ("schedule", "held", "better", "words"),
    [
        ([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], True, WARNING),
        ([0.4, 0.5, 0.6], [0.5, 0.6, 0.7], False, "the schedule does better than fixed values"),
        ([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], False, "no clear difference"),
        ([0.5, 0.6, 0.7], [0.4, 0.5, 0.701], False, "no clear difference"),
        ([0.5, 0.6, 0.7], [0.4999, 0.599, 0.6], False, "no clear difference"),
        ([0.5, 0.6, 0.7, 0.6, 0.5, 0.6], [0.4, 0.5, 0.6, 0.5, 0.4, 0.61], True, WARNING),
        ([0.5, 0.6, 0.7], [0.499, 0.599, 0.699], False, "no clear difference"),
        ([0.5], [0.4], False, "more seeds say which of them does better"),
        (
            [0.5, 0.6],
            [],
            False,
            "trained again with the last values held from the start, no network got to its end",
        ),
        ([], [0.5, 0.6], True, "trained again with the schedule, no network got to its end"),
    ],
)
@pytest.mark.parametrize("metric", ["validation_loss", "validation_accuracy"])
def test_a_verdict_needs_more_than_chance_and_a_difference_that_matters(metric, schedule, held, better, words):
    mode = "min" if metric == "validation_loss" else "max"
    found = horizon_of(metric, mode, reports(schedule=schedule, held=held), 9)
    assert found["held_is_better"] is better
    assert found["sentence"].startswith(words)


def test_a_metric_that_is_not_measured_at_the_end_gives_way_to_the_loss():
    found = horizon_of("dead_units", "max", reports(schedule=[0.5, 0.6], held=[0.4, 0.5]), 9)
    assert (found["metric"], found["held_is_better"]) == ("validation_loss", True)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("horizon: {networks: 2}", "horizon: {share: 0}", "horizon.share: must be above 0 and at most 1, got 0"),
        ("horizon: {networks: 2}", "horizon: {networks: 1}", "horizon.networks: must be at least 2, got 1"),
        (
            "horizon: {networks: 2}",
            "horizon: {average: 2.0}",
            "horizon.average: must be above 0 and at most 1, got 2",
        ),
        ("horizon: {networks: 2}", "horizon: {network: 2}", "horizon.network: unknown key; did you mean networks"),
        ("horizon: {networks: 2}", "horizon: yes", "horizon: must be a mapping of settings, got 'yes'"),
        (
            LATE[LATE.index("method:") : LATE.index("budget:")],
            "method: {name: held}\n",
            "horizon: compares a schedule",
        ),
    ],
)
def test_what_is_refused(old, new, sentence):
    assert old in LATE
    with pytest.raises(Mistakes, match=re.escape(sentence)):
        parse_study(LATE.replace(old, new))


def test_a_share_too_short_for_the_training_is_refused():
    schedule = "learning_rate: 0.05, optimization: {schedule: {name: cosine, warmup_steps: 30}}"
    text = LATE.replace("learning_rate: 0.05", schedule)
    parse_study(text)
    with pytest.raises(Mistakes, match=r"horizon\.share: leaves 12 training steps, and objective\.optimization"):
        parse_study(text.replace("{networks: 2}", "{share: 0.2}"))


SMOOTH = "study: s\nobjective: {task: ridge}\nmethod: {name: implicit}\nbudget: {steps: 2}\nhorizon: {}\n"


def test_every_other_road_refuses_it():
    with pytest.raises(Mistakes, match="horizon: is for studies that train a network"):
        parse_study(SMOOTH)
    with pytest.raises(Mistakes, match="horizon: is for a study by itself; leave it out, and give it"):
        parse_sweep(LATE + "sweep: {over: {objective.learning_rate: {uniform: [0.01, 0.1]}}, trials: 2}\n")
    with pytest.raises(Mistakes, match="horizon: is for a study by itself; leave it out where methods"):
        comparison_of(LATE, ComparisonSettings(methods=("random", "implicit"), steps=200))
    with pytest.raises(SettingError, match="horizon: is a section of study files"):
        tune(TwoWeightsTask(), {"weight_decay": {"strength": Tune(0.1)}}, steps=5, horizon={})


def test_check_says_what_it_costs(tmp_path, capsys):
    (tmp_path / "late.yaml").write_text(FALLING)
    assert main(["check", str(tmp_path / "late.yaml")]) == 0
    assert "3 times 2 networks, each for 100 steps" in capsys.readouterr().out
    assert not list(Path(tmp_path).glob("runs"))
