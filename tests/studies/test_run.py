import io
import json

import pytest
import torch
from own_process import selftune
from rich.console import Console

from selftune.methods.reports import Diverged
from selftune.studies import run as module
from selftune.studies.folder import load_network, new_folder, open_folder
from selftune.studies.network_outcome import COMPARISON
from selftune.studies.results import print_summary
from selftune.studies.run import run
from selftune.studies.saved_network import read_network
from selftune.studies.study_failed import StudyFailed
from selftune.studies.study_file import parse_study
from selftune.tracking.summary import read_summary
from selftune.tracking.trajectory import read_trajectory
from selftune.training import Trainer


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def start(text, tmp_path, console, name="out"):
    study = parse_study(text)
    folder = new_folder(study, tmp_path / name, local=True)
    return study, folder, run(study, folder, console, local=True, mlflow=False)


def test_a_run_leaves_everything(study_text, tmp_path, console):
    study, folder, summary = start(study_text, tmp_path, console)
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    assert read_summary(folder) | {"versions": 0} == summary | {"status": "finished", "versions": 0}
    assert summary["training_steps"] == 60
    trajectory = read_trajectory(folder)
    assert trajectory.training_step.tolist() == list(range(15, 61, 5))
    for index, hyperparameter in enumerate(summary["hyperparameters"]):
        assert hyperparameter["name"] == study.space.names[index]
        assert hyperparameter["start"] == trajectory.values[0, index]
        assert hyperparameter["end"] == trajectory.values[-1, index] != hyperparameter["start"]
    assert set(summary["tuned"]) == set(summary["fixed"]) != set()
    network = load_network(folder)
    split = study.objective.splits()["test"]
    loss = study.objective.validation_loss(network(split["inputs"]), split["labels"]).mean()
    assert loss.item() == pytest.approx(summary["tuned"]["test_loss"], rel=1e-5)
    assert (folder / "report.html").stat().st_size > 1000


def test_a_run_that_stops_early_leaves_its_best_network(study_text, tmp_path, console):
    optimization = "optimization: {learning_rate: 0.3, schedule: {name: cosine, warmup_steps: 5}, average: 0.9}"
    text = study_text.replace("  hidden: [16]", f"  hidden: [16]\n  {optimization}")
    text = text.replace("{steps: 60}", "{steps: 400, patience: 2}")
    study, folder, summary = start(text, tmp_path, console)
    assert summary["training_steps"] < 400
    assert "stopped early" in summary["remark"]
    trajectory, best = read_trajectory(folder), summary["best"]
    at = int(trajectory.validation_loss.argmin())
    assert (best["hyper_step"], best["training_step"]) == (at, int(trajectory.training_step[at]))
    assert list(best["hyperparameters"].values()) == trajectory.values[at].tolist()
    network = study.objective.network().eval()
    network.load_state_dict(read_network(folder, "best_network"))
    split = study.objective.splits()["test"]
    loss = study.objective.validation_loss(network(split["inputs"]), split["labels"]).mean()
    assert loss.item() == pytest.approx(best["measures"]["test_loss"], rel=1e-5)
    assert (folder / "best_network.pt").exists()
    assert "best_network" in (folder / "report.html").read_text()
    print_summary(console, summary, folder, mlflow=False)
    assert f"at hyper-step {at}" in console.file.getvalue()


def test_the_comparison_is_the_same_network_with_the_start_values(study_text, tmp_path, console):
    _, _, summary = start(study_text, tmp_path, console)
    from selftune.methods import Replay, Segment
    from selftune.training import run_in_process

    study = parse_study(study_text)
    segment = Segment(60, study.space.constrain(study.space.start))
    report = run_in_process(Replay([segment], 60), {0: study.strategy.trainers()(0)})[0]
    assert {name: report.metrics[name] for name in summary["fixed"]} == summary["fixed"]


def test_teams_are_averaged(study_text, tmp_path, console):
    _, _, alone = start(study_text, tmp_path, console, "alone")
    _, _, team = start(study_text.replace("number: 1", "number: 2"), tmp_path, console, "team")
    assert team["tuned"] != alone["tuned"]
    assert team["fixed"] != alone["fixed"]


def test_a_run_stopped_in_the_comparison_keeps_what_tuning_gave(study_text, tmp_path, console, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("selftune.studies.network_outcome.trained_at_start", stop)
        with pytest.raises(KeyboardInterrupt):
            start(study_text, tmp_path, console)
    folder = tmp_path / "out"
    stopped = read_summary(folder)
    assert stopped["status"] == "interrupted"
    assert "tuned" in stopped
    study, _ = open_folder(folder)
    summary = run(study, folder, console, local=True, mlflow=False)
    _, _, whole = start(study_text, tmp_path, console, "whole")
    assert summary["tuned"] == whole["tuned"]
    assert summary["fixed"] == whole["fixed"]
    assert "message" not in summary


def test_divergence_is_one_sentence_and_keeps_the_trajectory(study_text, tmp_path, console):
    text = study_text.replace("  hidden: [16]", "  hidden: [16]\n  learning_rate: 1.0e+9")
    with pytest.raises(StudyFailed, match=r"trainer 0 stopped: the training loss is (nan|inf) at training step"):
        start(text, tmp_path, console)
    summary = read_summary(tmp_path / "out")
    assert summary["status"] == "failed"
    assert "training loss" in summary["message"]
    assert not (tmp_path / "out" / COMPARISON).exists()


def test_divergence_names_the_penalty_that_made_up_the_loss(study_text, tmp_path, console):
    text = study_text.replace("strength: {start: 1e-4}", "strength: 1000.0")
    with pytest.raises(StudyFailed, match=r"after .*, of which weight_decay is .*, with"):
        start(text, tmp_path, console)
    assert "of which weight_decay is" in read_summary(tmp_path / "out")["message"]


def test_a_lost_trainer_is_said_when_the_others_go_on(study_text, tmp_path, console, monkeypatch):
    original = Trainer.execute

    def diverge_once(self, order, warm=None):
        if self.member == 1 and self.training_step >= 20:
            return Diverged(number=order.number, training_step=20, message="the training loss is nan")
        return original(self, order, warm)

    monkeypatch.setattr(Trainer, "execute", diverge_once)
    _, folder, summary = start(study_text.replace("number: 1", "number: 2"), tmp_path, console)
    assert [sentence.partition(";")[0] for sentence in summary["warnings"]] == [
        "tuned: trainer 1 stopped: the training loss is nan",
        "start values held: trainer 1 stopped: the training loss is nan",
    ]
    assert read_summary(folder)["warnings"] == summary["warnings"]


def test_a_result_worse_than_a_constant_answer_is_said(study_text, tmp_path, console):
    text = study_text.replace("regularizers:\n", "regularizers:\n  label_noise: {rate: 1.0, noise: asymmetric}\n")
    _, folder, summary = start(text, tmp_path, console)
    assert [sentence.split(":")[0] for sentence in summary["warnings"]] == ["tuned", "start values held"]
    assert "worse than always naming the most frequent class" in summary["warnings"][0]
    assert read_summary(folder)["warnings"] == summary["warnings"]
    assert "most frequent class" in (folder / "report.html").read_text()
    print_summary(console, summary, folder, mlflow=False)
    assert "warning tuned: validation accuracy 0." in console.file.getvalue()
    _, _, good = start(study_text, tmp_path, console, "good")
    assert good["warnings"] == []


def test_a_comparison_that_diverges_fails_nothing(study_text, tmp_path, console, monkeypatch):
    steps = []
    original = module.Runner.run

    def diverge_the_second_time(self, *arguments, **options):
        steps.append(arguments)
        if len(steps) == 2:
            raise StudyFailed("trainer 0 stopped: the training loss is nan")
        return original(self, *arguments, **options)

    monkeypatch.setattr(module.Runner, "run", diverge_the_second_time)
    _, folder, summary = start(study_text, tmp_path, console)
    assert summary["fixed"] == {}
    assert read_summary(folder)["status"] == "finished"
    assert "no comparison: with the start values held, trainer 0" in console.file.getvalue()


def test_a_bug_leaves_its_traceback_and_a_folder_that_says_failed(study_text, tmp_path, console, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("selftune.studies.strategies.network.network_of", broken)
    with pytest.raises(ZeroDivisionError):
        start(study_text, tmp_path, console)
    assert read_summary(tmp_path / "out") | {"versions": 0} == {
        "name": "tiny",
        "status": "failed",
        "message": "a bug",
        "versions": 0,
    }


@pytest.mark.timeout(300)  # a busy machine is no failure
def test_ray_gives_the_same_as_this_process(study_text, tmp_path, console):
    text = study_text.replace("number: 1, cpus: 1", "number: 2, cpus: 0.5")
    _, here, summary = start(text, tmp_path, console, "here")
    (tmp_path / "tiny.yaml").write_text(text)
    said = selftune("run", "tiny.yaml", "--no-mlflow", "--output", "there", cwd=tmp_path)
    assert "starting Ray" in said
    again = read_summary(tmp_path / "there")
    assert again["tuned"] == summary["tuned"]
    assert again["fixed"] == summary["fixed"]
    one, two = read_trajectory(here), read_trajectory(tmp_path / "there")
    assert one.table.drop_columns(["seconds"]).equals(two.table.drop_columns(["seconds"]))


def test_a_tracking_server_that_is_away_stops_nothing(study_text, tmp_path, console, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    study = parse_study(study_text)
    folder = new_folder(study, tmp_path / "out", local=True)
    run(study, folder, console, local=True, mlflow=True)
    assert read_summary(folder)["status"] == "finished"
    said = console.file.getvalue().splitlines()[-1]
    assert said.startswith("MLflow: could not reach http://127.0.0.1:9")
    assert f"`selftune sync {folder}`" in said


def test_another_seed_gives_another_network(study_text, tmp_path, console):
    _, one, _ = start(study_text, tmp_path, console, "one")
    _, two, _ = start(study_text.replace("seed: 0", "seed: 1"), tmp_path, console, "two")
    first, second = load_network(one).state_dict(), load_network(two).state_dict()
    assert not any(torch.equal(first[name], second[name]) for name in first)
