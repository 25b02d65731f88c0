"""A toy problem whose trajectory depends on every order that a trainer has done, and who records what happens."""

import os
import signal
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.listener import Listener
from selftune.methods import Budget, Method, SelfTuning, SelfTuningSettings
from selftune.methods.reports import Diverged, ResponseHypergradient, Trained, TrainingFinished
from selftune.methods.work_orders import FinishTraining

SPACE = Space([Hyperparameter(name, Interval(), 0.5, tuned=True) for name in ("a.x", "b.y")])


class ToyTrainer:
    """Weights follow the hyperparameters with seeded noise; every training step takes one second."""

    def __init__(
        self, member, diverges=None, fails=None, dies=None, stops=None, blocks=None, marker=None, seconds=0.0
    ):
        self.space = SPACE
        self.member = member
        self.training_step = 0
        self.weights = torch.full((2,), float(member))
        self.diverges = diverges
        self.fails = fails
        self.dies = dies
        self.stops = stops
        self.blocks = blocks
        self.marker = marker
        self.seconds = seconds

    def execute(self, order, warm=None):
        if order.kind == "finish":
            return TrainingFinished(
                number=order.number,
                training_step=self.training_step,
                measures={"validation_loss": 0.0, "test_loss": float(self.weights.sum())},
                network={"weights": self.weights.clone()},
            )
        unconstrained = order.values.unconstrained
        for _ in range(order.steps):
            generator = torch.Generator().manual_seed(1000 * self.member + self.training_step)
            noise = torch.randn(2, generator=generator)
            self.weights = 0.9 * self.weights + 0.1 * unconstrained.sin() + 0.01 * noise
            self.training_step += 1
            if self.training_step == self.diverges:
                return Diverged(number=order.number, message=f"loss is nan at step {self.diverges}")
            if self.training_step == self.fails:
                raise ArithmeticError("the toy broke")
            if self.training_step == self.dies and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.training_step in (self.stops, self.blocks) and not self.marker.exists():
                self.marker.touch()
                if self.training_step == self.stops:
                    os.kill(os.getpid(), signal.SIGSTOP)
                threading.Event().wait()
            time.sleep(self.seconds)
        report = Trained(
            number=order.number,
            training_step=self.training_step,
            training_loss=float(self.weights.square().sum()),
            version=order.version,
            seconds=float(order.steps),
        )
        if not order.hypergradient:
            return report
        return replace(
            report,
            measures={"validation_loss": float((self.weights - 1).square().sum())},
            hypergradient=ResponseHypergradient(hypergradient=self.weights - 1, scale_gradient=order.scale * 0.1),
        )

    def state_dict(self):
        return {"weights": self.weights.clone(), "training_step": self.training_step}

    def load_state_dict(self, state):
        self.weights = state["weights"]
        self.training_step = state["training_step"]


@dataclass(frozen=True)
class Toys:
    """Builds toy trainers; ``diverges``, ``fails`` and the like are (member, training step).

    A worker that ``dies``, ``stops`` (its process) or ``blocks`` (for ever) does so once: then there is the file
    ``marker``. ``seconds`` slow a training step.
    """

    diverges: tuple = (None, None)
    fails: tuple = (None, None)
    dies: tuple = (None, None)
    stops: tuple = (None, None)
    blocks: tuple = (None, None)
    marker: Path | None = None
    seconds: float = 0.0
    refuses: bool = False

    def __call__(self, member):
        if self.refuses:
            raise SettingError("trainers.gpus", "torch finds no GPU here")
        faults = {kind: getattr(self, kind) for kind in ("diverges", "fails", "dies", "stops", "blocks")}
        steps = {kind: step if who == member else None for kind, (who, step) in faults.items()}
        return ToyTrainer(member, **steps, marker=self.marker, seconds=self.seconds)


@dataclass(frozen=True)
class HeavyToys(Toys):
    """Toys with data that travel with them."""

    data: bytes = b""


@dataclass(frozen=True)
class ToyMethod:
    """Builds the real method with a small budget."""

    team_size: int = 1
    steps: int = 40
    checkpoint_every: int = 4

    def __call__(self):
        settings = SelfTuningSettings(
            warmup_steps=4, train_steps=2, learning_rate=0.1, checkpoint_every=self.checkpoint_every
        )
        return SelfTuning(Budget(steps=self.steps), settings, self.team_size)


class Recorder(Listener):
    """Writes down what it hears, with every bit of it."""

    def __init__(self):
        self.events = []
        self.arrivals, self.departures, self.hangs = [], [], []

    def arrived(self, member, place):
        self.arrivals.append(member)

    def departed(self, member, reason):
        self.departures.append((member, reason))

    def left_out(self, member, reason):
        self.events.append(("left_out", member, reason))

    def hung(self, member, reason):
        self.hangs.append((member, reason))

    def started(self, space, members):
        self.events.append(("started", members))

    def reported(self, member, report):
        self.events.append(("reported", member, report.number, report.kind))

    def hyper_step(self, step):
        self.events.append(("hyper_step", *bits(step)))

    def lost(self, member, reason):
        self.events.append(("lost", member, reason))

    def ended(self):
        self.events.append(("ended",))

    def of(self, kind):
        return [event for event in self.events if event[0] == kind]


def bits(step):
    """A hyper-step as plain values, tensors to the last bit."""
    return tuple(v.tolist() if isinstance(v, torch.Tensor) else v for v in vars(step).values())


class Silent(Method):
    """Asks for one order per member and then for nothing, without being done."""

    def __init__(self):
        self.members = {}

    def join(self, member, space):
        self.members[member] = False

    def leave(self, member):
        self.members.pop(member, None)

    def ask(self):
        new = [member for member, asked in self.members.items() if not asked]
        self.members |= dict.fromkeys(new, True)
        return {member: FinishTraining() for member in new if member > 0}

    def tell(self, member, report):
        return None

    @property
    def done(self):
        return False

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
