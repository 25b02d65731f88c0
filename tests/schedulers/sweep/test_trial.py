"""A trial in this process, without a cluster: what it reports, keeps, and goes on from."""

from dataclasses import replace

import pytest
import torch

from selftune import Classification, Optimization, Tune
from selftune.methods import Budget, SelfTuning, SelfTuningSettings
from selftune.schedulers import ray_internals
from selftune.schedulers.sweep.records import NUMBER, START, VALUES
from selftune.schedulers.sweep.trial import BEST, KIND, SweepTrial, TrialPlan, best_network
from selftune.search import SearchSettings
from selftune.storage.state_file import load_state
from selftune.training import TrainerFactory
from selftune.training.team_run import TeamRun

RATE = "objective.optimization.learning_rate"
SETTINGS = SearchSettings(metric="validation_loss", mode="min", report_every=20, trials=1)


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(48, 4, generator=generator)
    return x, (x.sum(dim=1) > 0).long()


def plan(values, steps=60):
    objective = Classification(
        lambda: torch.nn.Linear(4, 2),
        *map(data, range(3)),
        Optimization(batch_size=16, optimizer="sgd", learning_rate=values[RATE], momentum=0.0),
    )
    factory = TrainerFactory(objective, {"weight_decay": {"strength": Tune(1e-3)}}, steps=steps)
    settings = SelfTuningSettings(warmup_steps=10, learning_rate=0.1)
    return TrialPlan(lambda: SelfTuning(Budget(steps=steps), settings), factory, 1, steps)


class Trial(SweepTrial):
    planner, settings = staticmethod(plan), SETTINGS

    def setup(self, config):
        super().setup(config, self.planner, self.settings)


def trial(rate=0.1):
    return Trial({NUMBER: 0, VALUES: {RATE: rate}})


def results(one):
    found = [one.train()]
    while not found[-1]["done"]:
        found.append(one.train())
    return found


def test_a_trial_reports_the_plain_network_over_the_whole_validation_split():
    one = trial()
    found = results(one)
    assert [result["training_step"] for result in found] == [20, 40, 60]
    assert [result["work"] for result in found] == [20, 20, 20]
    assert all(result["seconds"] > 0 for result in found)
    made = plan({RATE: 0.1})
    run = TeamRun(made.method(), {0: made.trainers(0)})
    run.join()
    while not run.done:
        run.round()
    last = run.last[0]
    assert found[-1]["validation_loss"] == last.measures["validation_loss"], "looking at it changes nothing"
    assert not any(name.startswith("test_") for result in found for name in result), "test data steer nothing"


def test_the_best_network_so_far_is_in_the_checkpoint(tmp_path):
    one = trial()
    losses = [result["validation_loss"] for result in results(one)]
    one.save_checkpoint(str(tmp_path))
    best = load_state(tmp_path / BEST, KIND)["best"]
    assert best["value"] == min(losses)
    network = torch.nn.Linear(4, 2)
    network.load_state_dict(best["network"])
    assert plan({RATE: 0.1}).trainers(0).evaluated(network, ["validation"])["validation_loss"] == min(losses)


def test_a_trial_goes_on_from_its_checkpoint_to_the_same_numbers(tmp_path):
    whole = results(trial())
    one = trial()
    one.train()
    one.save_checkpoint(str(tmp_path))
    again = trial()
    again.load_checkpoint(str(tmp_path))
    found = results(again)
    keys = ("training_step", "validation_loss", "validation_accuracy")
    assert [[result[key] for key in keys] for result in found] == [
        [result[key] for key in keys] for result in whole[1:]
    ]


def test_another_trial_in_the_same_process_begins_anew():
    one = trial(0.3)
    results(one)
    assert one.reset_config({NUMBER: 0, VALUES: {RATE: 0.1}})
    assert results(one)[-1]["validation_loss"] == results(trial())[-1]["validation_loss"]


def test_a_network_that_diverges_ends_its_trial_with_a_message():
    one = trial(1e30)
    found = results(one)
    assert len(found) == 1
    assert "trainer 0 stopped" in found[0]["message"]
    assert found[0]["validation_loss"] == float("inf"), "worse than any other"


def test_the_metric_and_its_mode_say_which_network_is_the_best(tmp_path):
    class ByAccuracy(Trial):
        settings = replace(SETTINGS, metric="validation_accuracy", mode="max")

    one = ByAccuracy({NUMBER: 0, VALUES: {RATE: 0.1}})
    accuracies = [result["validation_accuracy"] for result in results(one)]
    one.save_checkpoint(str(tmp_path))
    assert load_state(tmp_path / BEST, KIND)["best"]["value"] == max(accuracies)


@pytest.mark.parametrize("every", [7, 100])
def test_reports_come_with_the_first_round_that_reaches_them(every):
    class Rare(Trial):
        settings = replace(SETTINGS, report_every=every)

    steps = [result["training_step"] for result in results(Rare({NUMBER: 0, VALUES: {RATE: 0.1}}))]
    assert steps[-1] == 60
    assert steps == sorted(set(steps))


def test_a_network_that_diverges_later_fails_its_trial_and_leaves_the_best_one_before(tmp_path):
    one = trial()
    before = one.train()["validation_loss"]
    for parameter in one._run.trainers[0].lower.network.parameters():
        parameter.data.fill_(1e30)
    last = one.train()
    assert last["done"]
    assert last["failed"]
    assert last["validation_loss"] == float("inf")
    assert (last["best"], last["best_step"]) == (before, 20)
    one.save_checkpoint(str(tmp_path))
    assert load_state(tmp_path / BEST, KIND)["best"]["step"] == 20


# Copies of another trial -----------------------------------------------------------------------------


def test_a_copy_of_another_trial_goes_on_at_its_own_learning_rate(tmp_path):
    donor, copy = trial(0.1), trial(0.02)
    donor.train()
    donor.save_checkpoint(str(tmp_path))
    copy.load_checkpoint(str(tmp_path))

    made = plan({RATE: 0.1})  # the same by hand, in one run
    run = TeamRun(made.method(), {0: made.trainers(0)})
    run.join()
    while run.training_step < 20:
        run.round()
    (group,) = run.trainers[0].lower.optimizer.param_groups
    group["lr"] = 0.02
    while not run.done:
        run.round()

    found = results(copy)
    assert [result["training_step"] for result in found] == [40, 60]
    assert [result["work"] for result in found] == [20, 20], "what the other one did is its own"
    assert found[-1]["validation_loss"] == run.last[0].measures["validation_loss"]
    assert torch.equal(copy._run.method.hyperparameters, run.method.hyperparameters)


def test_a_trial_that_an_earlier_driver_began_goes_on_from_its_checkpoint(tmp_path):
    whole = trial()
    whole.train()
    whole.save_checkpoint(str(tmp_path))
    again = Trial({NUMBER: 0, VALUES: {RATE: 0.1}, START: {"folder": str(tmp_path), "step": 20}})
    first, second = results(whole), results(again)
    assert [result["training_step"] for result in second] == [40, 60]
    assert [r["validation_loss"] for r in first] == [r["validation_loss"] for r in second]
    again.load_checkpoint(str(tmp_path))  # as Tune does, later in that run
    assert again.train()["training_step"] == 40


def test_a_copy_takes_the_place_of_a_trial_in_its_process(tmp_path):
    donor, other = trial(0.1), trial(0.3)
    donor.train()
    donor.save_checkpoint(str(tmp_path))
    other.train()
    alone = trial(0.02)
    for one in (other, alone):
        one.reset_config({NUMBER: 0, VALUES: {RATE: 0.02}})
        one.load_checkpoint(str(tmp_path))
    assert [r["validation_loss"] for r in results(other)] == [r["validation_loss"] for r in results(alone)]


def test_a_copy_keeps_the_best_network_of_the_other_until_it_has_a_better_one(tmp_path):
    donor, copy = trial(0.1), trial(1e-12)
    best = donor.train()
    donor.save_checkpoint(str(tmp_path))
    copy.load_checkpoint(str(tmp_path))
    result = copy.train()
    assert result["best"] <= best["validation_loss"]
    assert result["best_step"] in (20, 40)


def test_a_copy_whose_own_best_network_was_better_keeps_it(tmp_path, monkeypatch):
    own, donor, checkpoints = trial(0.1), trial(1e-12), tmp_path / "ray" / "run-0" / "trial-1"
    later = tmp_path / "ray" / "run-1" / "trial-1"  # the copy is made by another driver
    best = min(result["validation_loss"] for result in results(own))
    for name in ("checkpoint_000002", "checkpoint_000003", "donor"):
        (checkpoints / name).mkdir(parents=True)
    own.save_checkpoint(str(checkpoints / "checkpoint_000002"))
    (checkpoints / "checkpoint_000003" / BEST).write_bytes(b"half of")  # killed meanwhile
    assert donor.train()["validation_loss"] > best
    donor.save_checkpoint(str(checkpoints / "donor"))

    copy = trial(0.02)
    with monkeypatch.context() as patch:
        patch.setattr(ray_internals, "folder_of", lambda trainable: later)
        copy.load_checkpoint(str(checkpoints / "donor"))
    result = copy.train()
    assert result["training_step"] == 40
    assert result["validation_loss"] > result["best"] == best
    (later / "checkpoint_000000").mkdir(parents=True)
    copy.save_checkpoint(str(later / "checkpoint_000000"))
    network = torch.nn.Linear(4, 2)
    network.load_state_dict(best_network(tmp_path, 1))
    assert plan({RATE: 0.1}).trainers(0).evaluated(network, ["validation"])["validation_loss"] == best
