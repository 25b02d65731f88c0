import pickle
import re

import pytest
import torch
from full_matrix import first_of

from selftune.errors import Stopped
from selftune.hyperparameters import Tune
from selftune.listener import Listener
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import (
    Budget,
    NetworkLineSearch,
    NetworkLineSearchSettings,
    Replay,
    Segment,
    SelfTuning,
    SelfTuningSettings,
)
from selftune.regularization.regularizer import regularizers
from selftune.storage.files import DamagedFile
from selftune.training import NoTrainerLeft, TrainerFactory, run_in_process
from selftune.training.runner import never

SETTINGS = SelfTuningSettings(warmup_steps=10, train_steps=3, checkpoint_every=4)


class Recorder(Listener):
    def __init__(self, stop_after=None):
        self.steps, self.reports, self.lost_members, self.stop_after = [], [], [], stop_after
        self.behind = None

    def resumed(self, orders, hyper_steps):
        self.behind = orders, hyper_steps

    def reported(self, member, report):
        self.reports.append((member, report.kind))

    def hyper_step(self, step):
        self.steps.append(step)
        if step.number == self.stop_after:
            raise KeyboardInterrupt

    def lost(self, member, reason):
        self.lost_members.append((member, reason))

    def rows(self):
        return {
            s.number: torch.cat([s.hyperparameters, s.scale, s.hypergradient, torch.tensor([s.training_loss])])
            for s in self.steps
        }


def run(objective, regularization, folder=None, stop_after=None, team=2, recorder=None, stop=never):
    factory = TrainerFactory(objective, regularization, seed=3)
    method = SelfTuning(Budget(steps=70), SETTINGS, team_size=team)
    recorder = recorder or Recorder(stop_after)
    last = run_in_process(method, {m: factory(m) for m in range(team)}, recorder, folder, stop)
    return last, recorder, method


def test_a_team_runs_to_the_end(objective, regularization):
    last, recorder, method = run(objective, regularization)
    assert [step.number for step in recorder.steps] == list(range(20))
    assert recorder.steps[-1].training_step == 70
    assert set(last) == {0, 1}
    assert all(report.kind == "finish" for report in last.values())
    assert method.done


@pytest.mark.parametrize("stop_after", first_of([12, 5]))
def test_an_interrupted_run_goes_on_to_the_same_trajectory(objective, regularization, tmp_path, stop_after):
    _, undisturbed, _ = run(objective, regularization)
    with pytest.raises(KeyboardInterrupt):
        run(objective, regularization, tmp_path, stop_after)
    last, resumed, _ = run(objective, regularization, tmp_path)
    saved = (stop_after // 4) * 4
    assert resumed.steps[0].number == saved  # what was checkpointed is not repeated
    assert undisturbed.behind == ({0: 0, 1: 0}, 0)
    assert resumed.behind[1] == saved
    repeated = [member for member, _ in resumed.reports]
    total = [member for member, _ in undisturbed.reports]
    assert all(resumed.behind[0][m] + repeated.count(m) == total.count(m) for m in (0, 1))
    expected = undisturbed.rows()
    for number, row in resumed.rows().items():
        assert torch.equal(row, expected[number])
    assert last[0].metrics["test_loss"] == run(objective, regularization)[0][0].metrics["test_loss"]


class Asked:
    """Says yes at its ``number``-th question."""

    def __init__(self, number):
        self.left = number

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("number", first_of([3, 0, 9]))
def test_a_run_that_is_asked_to_stop_goes_on_later_without_repeating_anything(
    objective, regularization, tmp_path, number
):
    _, undisturbed, _ = run(objective, regularization)
    stopped = Recorder()
    with pytest.raises(Stopped, match=r"after \d+ (hyper-|training )steps?"):
        run(objective, regularization, tmp_path, recorder=stopped, stop=Asked(number))
    _, resumed, _ = run(objective, regularization, tmp_path)
    assert stopped.reports + resumed.reports == undisturbed.reports
    rows = stopped.rows() | resumed.rows()
    assert all(torch.equal(row, rows[step]) for step, row in undisturbed.rows().items())


@pytest.mark.parametrize("number", first_of([4, 1, 6]))
def test_a_line_search_stops_within_a_hyper_step_and_goes_on_to_the_same_one(objective, tmp_path, number):
    factory = TrainerFactory(objective, {"weight_decay": {"strength": Tune(1e-2)}}, seed=3)
    settings = NetworkLineSearchSettings(
        warmup_steps=0, train_steps=2, lanczos_steps=1, system_steps=1, validation_samples=30
    )

    def search(folder=None, stop=never):
        recorder = Recorder()
        team = {member: factory(member) for member in range(2)}
        try:
            run_in_process(NetworkLineSearch(Budget(steps=4), settings, team_size=2), team, recorder, folder, stop)
        except Stopped:
            assert stop is not never
        return recorder

    undisturbed, stopped, resumed = search(), search(tmp_path, Asked(number)), search(tmp_path)
    assert len(undisturbed.reports) > len(stopped.reports) > 0
    assert stopped.reports + resumed.reports == undisturbed.reports
    rows = stopped.rows() | resumed.rows()
    assert all(torch.equal(row, rows[step]) for step, row in undisturbed.rows().items())


def test_replaying_the_trajectory_reproduces_the_tuned_network_bit_for_bit(objective, regularization):
    last, recorder, _ = run(objective, regularization, team=1)
    schedule = [Segment(s.training_step, s.hyperparameters) for s in recorder.steps]
    factory = TrainerFactory(objective, regularization, seed=3)
    replayed = run_in_process(Replay(schedule, 70), {0: factory(0)})
    tuned = {k: v for k, v in last[0].tensors.items() if k.startswith("network.")}
    assert tuned
    assert all(torch.equal(replayed[0].tensors[name], tensor) for name, tensor in tuned.items())
    assert replayed[0].metrics["test_loss"] == last[0].metrics["test_loss"]


def test_when_every_trainer_diverges_the_run_ends_with_the_last_checkpoint_named(objective, tmp_path):
    wild = Classification(
        objective.network,
        *[(s["inputs"] * 1e30, s["labels"]) for s in objective.splits().values()],
        Optimization(batch_size=16, learning_rate=1e6),
    )
    recorder = Recorder()
    factory = TrainerFactory(wild, [regularizers["label_smoothing"](epsilon=Tune(0.1))])
    with pytest.raises(NoTrainerLeft, match=r"trainer 0 stopped: the training loss .* no checkpoint was made"):
        run_in_process(SelfTuning(Budget(steps=50), SETTINGS), {0: factory(0)}, recorder, tmp_path)
    assert [member for member, _ in recorder.lost_members] == [0]


# Damaged checkpoints ---------------------------------------------------------------------------------


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 0x04  # in the middle of a weight
    path.write_bytes(content)


def emptied(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def removed(path):
    path.unlink()


@pytest.mark.parametrize("harm", first_of([flipped, emptied, cut, removed]))
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(
    objective, regularization, tmp_path, harm, caplog
):
    _, undisturbed, _ = run(objective, regularization)
    with pytest.raises(KeyboardInterrupt):
        run(objective, regularization, tmp_path, stop_after=13)
    harm(tmp_path / "checkpoint.safetensors")
    _, resumed, _ = run(objective, regularization, tmp_path)
    assert resumed.steps[0].number == 8
    assert re.search(r"checkpoint\.safetensors: is .*; going on from the checkpoint before it", caplog.text)
    expected = undisturbed.rows()
    assert all(torch.equal(row, expected[number]) for number, row in resumed.rows().items())


@pytest.mark.parametrize("harm", first_of([cut, flipped, emptied]))
def test_without_a_checkpoint_that_can_be_read_nothing_starts(objective, regularization, tmp_path, harm):
    with pytest.raises(KeyboardInterrupt):
        run(objective, regularization, tmp_path, stop_after=13)
    for name in ("checkpoint.safetensors", "checkpoint.before.safetensors"):
        harm(tmp_path / name)
    with pytest.raises(
        DamagedFile, match=r"is damaged.*; remove the checkpoints in .* to start the study from its beginning"
    ):
        run(objective, regularization, tmp_path)


def test_the_checkpoint_of_another_study_is_refused(objective, regularization, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(objective, regularization, tmp_path, stop_after=5)
    with pytest.raises(DamagedFile, match="holds the state of another study"):
        run(objective, [regularizers["label_smoothing"](epsilon=Tune(0.1))], tmp_path)


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_opened(objective, regularization, tmp_path):
    ran = tmp_path / "ran"
    tmp_path.joinpath("checkpoint.safetensors").write_bytes(pickle.dumps(Runs(ran)))
    with pytest.raises(DamagedFile, match="is damaged"):
        run(objective, regularization, tmp_path)
    tmp_path.joinpath("checkpoint.safetensors").rename(tmp_path / "checkpoint.pt")
    with pytest.raises(DamagedFile, match="written by an earlier version"):
        run(objective, regularization, tmp_path)
    assert not ran.exists()


class Runs:
    """Code that a pickle would run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


# The order of things ---------------------------------------------------------------------------------


class Logged(Listener):
    def __init__(self, log):
        self.log = log

    def resumed(self, orders, hyper_steps):
        self.log.append(("resumed", dict(orders), hyper_steps))

    def started(self, space, members):
        self.log.append(("started", members))

    def reported(self, member, report):
        self.log.append(("reported", member, report.number))

    def hyper_step(self, step):
        self.log.append(("hyper-step", step.number))

    def ended(self):
        self.log.append(("ended",))


def logging(trainer, member, log):
    """A trainer that notes what it does."""
    execute, export = trainer.execute, trainer.export_state

    def noted(order, *warm):
        log.append(("executes", member, order.number))
        return execute(order, *warm)

    def exported(key):
        log.append(("exports", member))
        return export(key)

    trainer.execute, trainer.export_state = noted, exported
    return trainer


def test_trainers_of_one_process_work_one_after_the_other_and_are_heard_before_the_next_begins(
    objective, regularization
):
    factory, log = TrainerFactory(objective, regularization, seed=3), []
    team = {member: logging(factory(member), member, log) for member in range(2)}
    run_in_process(SelfTuning(Budget(steps=13), SETTINGS, team_size=2), team, Logged(log))
    rounds = [[("executes", m, n), ("reported", m, n)] for n in range(3) for m in (0, 1)]
    assert log == [
        ("resumed", {0: 0, 1: 0}, 0),
        ("started", 2),
        *[event for round in rounds[:4] for event in round],
        ("hyper-step", 0),
        *[event for round in rounds[4:] for event in round],
        ("ended",),
    ]


def test_a_state_is_taken_from_its_keeper_right_before_it_is_needed(objective):
    factory, log = TrainerFactory(objective, {"weight_decay": {"strength": Tune(1e-2)}}, seed=3), []
    settings = NetworkLineSearchSettings(
        warmup_steps=0, train_steps=2, lanczos_steps=1, system_steps=1, validation_samples=30
    )
    team = {member: logging(factory(member), member, log) for member in range(2)}
    run_in_process(NetworkLineSearch(Budget(steps=4), settings, team_size=2), team)
    exports = [at for at, event in enumerate(log) if event[0] == "exports"]
    assert exports
    assert all(log[at + 1][0] == "executes" for at in exports)
    assert any(log[at] == ("exports", 0) and log[at + 1][1] == 1 for at in exports)
