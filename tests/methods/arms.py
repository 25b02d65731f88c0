"""Trainers whose arms' losses are known: nothing is trained, but states are kept and can be lost."""

import torch

from selftune.methods import Budget, NetworkLineSearch, NetworkLineSearchSettings
from selftune.methods.reports import (
    ArmTrained,
    CandidateTrained,
    ProximalHypergradient,
    StateMissing,
    TrainingFinished,
)
from selftune.methods.work_orders import FinishTraining, TrainStayArm
from selftune.training.state_store import StateStore

EXAMPLES = 100


class Arms:
    """Losses of examples are 1 + |u - target|^2 / 2, less what training has brought, with noise of each arm.

    ``trained`` lists what the state of every key has trained with: the whole past of its path.
    """

    def __init__(self, target=(2.0, -1.0), noise=0.0, progress=0.01, hypergradient=None, examples=EXAMPLES):
        self.target = torch.tensor(target)
        self.noise, self.progress, self.examples = noise, progress, examples
        self.fixed = hypergradient
        self.kept = {}
        self.orders = []
        self.state = ()

    def execute(self, order, warm=None):
        self.orders.append(order)
        finish = isinstance(order, FinishTraining)
        if order.start is not None:
            past = self.kept.get(order.start, warm)
            if past is None and not finish and order.fresh:
                past = ()
            if past is None:
                return StateMissing(number=order.number)
            self.kept[order.start] = self.state = past
            self.kept = {key: state for key, state in self.kept.items() if key in order.states}
        steps = sum(steps for steps, _ in self.state)
        if finish:
            return TrainingFinished(number=order.number, training_step=steps, message=order.remark)
        u = order.values.unconstrained
        self.state = (*self.state, (order.steps, tuple(u.tolist())))
        steps += order.steps
        self.kept[order.end] = self.state
        losses, found = self.losses(u, steps, order), None
        stay = isinstance(order, TrainStayArm)
        if stay and order.hypergradient:
            z = u - self.target if self.fixed is None else torch.tensor(self.fixed)
            found = ProximalHypergradient(
                hypergradient=z, ritz_min=-0.5, ritz_max=1.0, gamma=1.0 + steps, residual=0.0
            )
        return (ArmTrained if stay else CandidateTrained)(
            number=order.number,
            training_step=steps,
            training_loss=1.0,
            measures={"validation_loss": float(losses.mean())},
            hypergradient=found,
            work=order.steps,
            seconds=float(order.steps),
            losses=losses,
        )

    def losses(self, u, steps, order):
        mean = 1 + 0.5 * (u - self.target).square().sum() - self.progress * steps
        seed = hash((steps, body_sample(order), tuple(u.tolist()))) % 2**31
        noise = torch.randn(self.examples, generator=torch.Generator().manual_seed(seed))
        return mean + self.noise * noise

    def export_state(self, key):
        return self.kept.get(key)


def body_sample(order):
    return order.sample


def line_search(steps=400, team=1, seconds=None, **changes):
    settings = NetworkLineSearchSettings(**{"warmup_steps": 0, "train_steps": 10} | changes)
    return NetworkLineSearch(Budget(None if seconds else steps, seconds), settings, team)


class Drive:
    """Moves orders and reports one at a time, so that a test can lose trainers in between."""

    def __init__(self, method, trainers, space, choose=None):
        self.method, self.trainers, self.steps, self.last = method, dict(trainers), [], {}
        self.running, self.states, self.travelled = {}, StateStore(), []
        self.choose = choose or (lambda running: min(running))
        for member in trainers:
            method.join(member, space)

    def ask(self):
        orders = self.method.ask()
        copies = self.states.copies(orders, self.trainers)
        self.travelled += [(m, orders[m].start) for m, state in copies.items() if state is not None]
        self.running |= {member: (order, copies.get(member)) for member, order in orders.items()}

    def tell(self, member):
        order, warm = self.running.pop(member)
        report = self.trainers[member].execute(order, warm)
        self.states.did(member, order, report)
        self.last[member] = report
        step = self.method.tell(member, report)
        self.steps += [] if step is None else [step]

    def lose(self, member):
        self.running.pop(member, None)
        del self.trainers[member]
        self.states.forget(member)
        step = self.method.leave(member)
        self.steps += [] if step is None else [step]

    def until(self, condition):
        """Asks and tells until the condition holds with orders asked for and not yet told."""
        self.ask()
        while not condition():
            self.tell(self.choose(self.running))
            self.ask()
        return self

    def run(self):
        while not self.method.done:
            self.ask()
            if not self.method.done:
                assert self.running, "a method that is not done asks for something once every report is told"
                self.tell(self.choose(self.running))
        return self


def rows(steps):
    """All of a trajectory that must not depend on the size of a team."""
    return [
        (
            step.number,
            step.training_step,
            step.validation_loss,
            step.hyperparameters.tolist(),
            {k: str(v) for k, v in step.certificate.items() if k != "work"},  # NaN equals NaN
        )
        for step in steps
    ]
