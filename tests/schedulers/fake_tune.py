"""Ray Tune without Ray: its controller's rules for trials, actors, results and failures, in random order.

The scheduler, its callback and the trainables are the real ones; what is theirs to see of Tune is here.
"""

import pickle
import random
import shutil
import tempfile
import types
from collections import deque
from pathlib import Path

from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from selftune.schedulers.ending import Ending


class Reference:
    """What a call to an actor will return: nothing yet, a value, or the actor's death."""

    def __init__(self):
        self.state = "pending"
        self.value = None

    def become(self, value):
        self.state, self.value = "there", pickle.loads(cloudpickle.dumps(value))


class Actor:
    """A worker: tasks are done in the order of submission, each when what it needs has come."""

    def __init__(self, worker, config):
        self.trainable = worker(config=dict(config))
        self.tasks = deque()
        self.alive = True
        self.hangs = False
        self.receive = types.SimpleNamespace(remote=self._receive)
        self.export_state = types.SimpleNamespace(remote=self._export_state)

    def _receive(self, order, state=None):
        self.tasks.append(("receive", (order, state)))

    def _export_state(self, key):
        reference = Reference()
        self.tasks.append(("export", (key, reference)))
        return reference

    @property
    def able(self):
        if not self.tasks or (self.hangs and self.alive):
            return False
        name, argument = self.tasks[0]
        return name != "receive" or argument[1] is None or argument[1].state != "pending"

    def die(self):
        """Its process is gone, and with it what it was to export."""
        self.alive = False
        for name, argument in self.tasks:
            if name == "export":
                argument[1].state = "lost"
        self.tasks = deque(task for task in self.tasks if task[0] != "export")


class FakeTrial:
    PAUSED = Trial.PAUSED

    def __init__(self, trial_id, config=None, max_failures=10_000):
        self.trial_id = trial_id
        self.config = config or {}
        self.status = Trial.PENDING
        self.temporary_state = types.SimpleNamespace(ray_actor=None)
        self.is_saving = False
        self.checkpoints = []
        self.run_metadata = types.SimpleNamespace(num_failures=0, invalidate_cache=lambda: None)
        self.max_failures = max_failures
        self.placement_group_factory = types.SimpleNamespace(required_resources={"CPU": 1}, bundles=[{"CPU": 1}])
        self.error_file = None
        self.results = []

    def set_config(self, config):
        self.config = config

    def set_status(self, status):
        self.status = status

    def init_local_path(self):
        """Makes a folder, which nothing here has."""

    def is_finished(self):
        return self.status in (Trial.TERMINATED, Trial.ERROR)

    def should_recover(self):
        return self.run_metadata.num_failures <= self.max_failures

    @property
    def latest_checkpoint_result(self):
        return self.checkpoints[-1] if self.checkpoints else None

    @property
    def checkpoint(self):
        return self.checkpoints[-1].checkpoint if self.checkpoints else None


class FakeSearcher:
    metric = None

    def __init__(self, trials, max_concurrent=None):
        self.left = deque(trials)
        self.max_concurrent = max_concurrent

    def is_finished(self):
        return not self.left


class FakeTune:
    """A controller; ``run`` steps it to the end, killing workers with probability ``kill`` per step."""

    def __init__(self, scheduler, worker, trials, seed=0, kill=0.0, max_concurrent=None, metric=None):
        self.initial = cloudpickle.dumps((scheduler, scheduler.callback()))
        self._start(scheduler, scheduler.callback(), worker, seed, kill, metric)
        trials = [FakeTrial(f"t{i}") for i in range(trials)] if isinstance(trials, int) else trials
        self.search_alg = FakeSearcher(trials, max_concurrent)
        self.callback.setup()

    def _start(self, scheduler, callback, worker, seed, kill, metric=None):
        self.scheduler, self.callback, self.worker = scheduler, callback, worker
        self.random = random.Random(seed)
        self.kill = kill
        self.kills = 0
        self.trials = []
        self.starting = []
        self.room = None  # actors that fit; None for any number
        self.snapshots = []
        self.garbage = []
        self.record = None
        self.folder = None
        scheduler.set_search_properties(metric, metric and "min")

    def restored(self, trials_from, state_from, seed=1, kill=0.0, listener=None):
        """Another driver that goes on from two of this one's snapshots: Tune writes them one after the other."""
        other = object.__new__(FakeTune)
        scheduler, callback = pickle.loads(self.initial)
        scheduler.listener = listener
        other.initial = self.initial
        other._start(scheduler, callback, self.worker, seed, kill)
        other.search_alg = FakeSearcher([])
        callback.set_state(pickle.loads(state_from[1]))
        trials = pickle.loads(trials_from[0])
        other.random.shuffle(trials)
        for trial in trials:
            if not trial.is_finished():
                trial.status = Trial.PENDING
            other.add(trial)
        callback.setup()
        return other

    def checkpoint(self, force=False):
        copies = []
        for trial in self.trials:
            copy = FakeTrial(trial.trial_id, trial.config, trial.max_failures)
            copy.status, copy.checkpoints = trial.status, list(trial.checkpoints)
            copies.append(copy)
        state = self.callback.get_state()
        self.snapshots.append((cloudpickle.dumps(copies), cloudpickle.dumps(state)))

    def stopped(self, steps=10_000):
        """Asks the scheduler to end the run; the snapshot that Tune takes then."""
        over = []
        self.scheduler.ending = Ending(lambda: True, lambda: over.append(True))
        for _ in range(steps):
            if over:
                self.checkpoint()
                return self.snapshots[-1]
            self.step()
        raise AssertionError("the run does not end")

    # One step, as TuneController.step ------------------------------------------------------------------

    def run(self, steps=100_000):
        for _ in range(steps):
            if not self.search_alg.left and all(trial.is_finished() for trial in self.trials):
                self.callback.on_experiment_end(self.trials)
                return self
            self.step()
        raise AssertionError("the run does not end")

    def step(self):
        live = sum(not trial.is_finished() for trial in self.trials)
        while self.search_alg.left and live < (self.search_alg.max_concurrent or 1000):
            self.add(self.search_alg.left.popleft())
            live += 1
        chosen = self.scheduler.choose_trial_to_run(self)
        if chosen is not None:
            chosen.status = Trial.PENDING
            self.starting.append(chosen)
        for trial in self.trials:
            if trial.status == Trial.PENDING and trial not in self.starting:
                self.starting.append(trial)
        if self.random.random() < self.kill:
            self._kill_one()
        else:
            self._event()
        if self.record is not None:
            self.record.on_step_end(0, self.trials)

    def keep(self, record, folder):
        """This driver's record takes the place of the callback; checkpoints go to a folder of its own."""
        self.callback = self.record = record
        self.folder = folder
        record.setup()

    def add(self, trial):
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)

    _on_training_result = _trial_task_failure = None  # this one calls its own

    def _schedule_trial_task(self, trial, method_name, args, on_result=None, on_error=None):
        tasks = trial.temporary_state.ray_actor.tasks
        if method_name == "carry_out":
            tasks.append(("receive", (*args, None)))
        tasks.append(("train", None))

    _trial_to_actor, _staged_trials = (), ()  # those that wait for their place are in `starting`

    def _set_trial_status(self, trial, status):
        assert trial.status == Trial.PENDING
        self.starting = [other for other in self.starting if other is not trial]
        trial.status = status

    def _schedule_trial_save(self, trial):
        trial.is_saving = True
        trial.temporary_state.ray_actor.tasks.append(("save", None))

    def _kill_one(self):
        living = [t for t in self.trials if t.temporary_state.ray_actor and t.temporary_state.ray_actor.alive]
        if living:
            self.random.choice(living).temporary_state.ray_actor.die()
            self.kills += 1

    def _event(self):
        busy = [t for t in self.trials if t.temporary_state.ray_actor and t.temporary_state.ray_actor.able]
        there = sum(trial.temporary_state.ray_actor is not None for trial in self.trials)
        able = self.starting if self.room is None or there < self.room else []
        choices = [(self._start_actor, trial) for trial in able] + [(self._task, t) for t in busy]
        if choices:
            handler, trial = self.random.choice(choices)
            handler(trial)

    def _start_actor(self, trial):
        self.starting.remove(trial)
        trial.temporary_state.ray_actor = Actor(self.worker, trial.config)
        trial.status = Trial.RUNNING
        if trial.checkpoints:
            trial.temporary_state.ray_actor.tasks.append(("restore", trial.checkpoints[-1]))
        self._schedule_trial_task(trial, "train", ())

    def _task(self, trial):
        actor = trial.temporary_state.ray_actor
        name, argument = actor.tasks.popleft()
        if name == "export":
            key, reference = argument
            if actor.alive:
                reference.become(actor.trainable.export_state(key))
            else:
                reference.state = "lost"
        elif name == "receive" and argument[1] is not None and argument[1].state == "lost":
            pass  # the call never happens
        elif not actor.alive:
            self.fail(trial)
        elif name == "receive":
            order, reference = argument
            actor.trainable.receive(*([order] if reference is None else [order, reference.value]))
        elif name == "restore":
            assert Path(argument.checkpoint.path).exists(), "a checkpoint that Tune still names was deleted"
            actor.trainable.restore(argument)
        elif name == "save":
            try:
                saved = actor.trainable.save(self._place(trial))
            except OSError as error:
                self.fail(trial, error)
            else:
                self._saved(trial, saved)
        else:
            try:
                result = actor.trainable.train()
            except ArithmeticError as error:
                self.fail(trial, error)
            else:
                self._result(trial, pickle.loads(cloudpickle.dumps(result)))

    def _place(self, trial):
        if self.folder is None:
            return None
        number = int(trial.checkpoints[-1].checkpoint.path.rpartition("-")[2]) + 1 if trial.checkpoints else 0
        return str(self.folder / trial.trial_id / f"checkpoint-{number}")

    def fail(self, trial, error="the worker died"):
        trial.error_file = Path(tempfile.mkdtemp()) / "error.txt"
        trial.error_file.write_text(f"Failure # 1 (occurred at noon)\n{error}\n")
        trial.run_metadata.num_failures += 1
        trial.temporary_state.ray_actor.die()
        trial.temporary_state.ray_actor = None
        trial.is_saving = False
        trial.status = Trial.ERROR
        self.scheduler.on_trial_error(self, trial)
        if trial.should_recover():
            trial.status = Trial.PENDING
            self.trials.remove(trial)
            self.add(trial)

    def _result(self, trial, result):
        decision = self.scheduler.on_trial_result(self, trial, dict(result))
        if decision == TrialScheduler.STOP:
            result["done"] = True
        self.callback.on_trial_result(0, self.trials, trial, result)
        trial.results.append(result)
        if result.get("should_checkpoint") or result["done"]:
            trial.is_saving = True
            trial.temporary_state.ray_actor.tasks.append(("save", None))

    def _saved(self, trial, saved):
        trial.checkpoints.append(saved)
        for old in trial.checkpoints[:-3]:
            shutil.rmtree(old.checkpoint.path, ignore_errors=True)
        trial.checkpoints = trial.checkpoints[-3:]
        trial.is_saving = False
        self.callback.on_trial_save(0, self.trials, trial)
        if trial.results and trial.results[-1]["done"]:
            self.stop_trial(trial)

    def stop_trial(self, trial):
        if trial.status in (Trial.PENDING, Trial.PAUSED):
            self.scheduler.on_trial_remove(self, trial)
        else:
            self.scheduler.on_trial_complete(self, trial, {})
        self.starting = [other for other in self.starting if other is not trial]
        if trial.temporary_state.ray_actor is not None:
            trial.temporary_state.ray_actor.die()
        trial.temporary_state.ray_actor = None
        trial.status = Trial.TERMINATED
