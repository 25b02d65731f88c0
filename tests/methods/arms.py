"""Trainers whose arms' losses are known: nothing is trained, but states are kept and can be lost."""

import torch

from selftune.methods import Budget, NetworkLineSearch, NetworkLineSearchSettings, Report

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
        body = order.body
        self.orders.append(order)
        if body["start"] is not None:
            past = self.kept.get(body["start"], () if body["fresh"] else warm)
            if past is None:
                return Report("missing", order.number, {"training_step": 0.0})
            self.kept = {key: state for key, state in self.kept.items() if key in body["keep"]}
            self.kept[body["start"]] = self.state = past
        steps = sum(steps for steps, _ in self.state)
        if order.kind == "finish":
            return Report("finish", order.number, {"training_step": float(steps)}, message=body["remark"])
        u = body["unconstrained"]
        self.state = (*self.state, (body["steps"], tuple(u.tolist())))
        steps += body["steps"]
        self.kept[body["end"]] = self.state
        metrics = {"training_step": float(steps), "work": float(body["steps"]), "seconds": float(body["steps"])}
        metrics |= {"training_loss": 1.0, "certified": 1.0}
        payload = {"losses": self.losses(u, steps, order)}
        metrics["validation_loss"] = float(payload["losses"].mean())
        if body.get("hypergradient"):
            payload["hypergradient"] = u - self.target if self.fixed is None else torch.tensor(self.fixed)
            metrics |= {"ritz_min": -0.5, "gamma": 1.0 + steps, "residual": 0.0}
        return Report(order.kind, order.number, metrics, payload)

    def losses(self, u, steps, order):
        mean = 1 + 0.5 * (u - self.target).square().sum() - self.progress * steps
        seed = hash((steps, body_sample(order), tuple(u.tolist()))) % 2**31
        noise = torch.randn(self.examples, generator=torch.Generator().manual_seed(seed))
        return mean + self.noise * noise

    def export_state(self, key):
        return self.kept.get(key)


def body_sample(order):
    return order.body["sample"]


def line_search(steps=400, team=1, seconds=None, **changes):
    settings = NetworkLineSearchSettings(**{"warmup_steps": 0, "train_steps": 10} | changes)
    return NetworkLineSearch(Budget(None if seconds else steps, seconds), settings, team)


class Drive:
    """Moves orders and reports one at a time, so that a test can lose trainers in between."""

    def __init__(self, method, trainers, space, choose=None):
        self.method, self.trainers, self.steps, self.last = method, dict(trainers), [], {}
        self.running = {}
        self.choose = choose or (lambda running: min(running))
        for member in trainers:
            method.join(member, space)

    def ask(self):
        for member, order in self.method.ask().items():
            warm = None
            if order.warm_from is not None and order.warm_from[0] in self.trainers:
                warm = self.trainers[order.warm_from[0]].export_state(order.warm_from[1])
            self.running[member] = order, warm

    def tell(self, member):
        order, warm = self.running.pop(member)
        report = self.trainers[member].execute(order, warm)
        self.last[member] = report
        step = self.method.tell(member, report)
        self.steps += [] if step is None else [step]

    def lose(self, member):
        self.running.pop(member, None)
        del self.trainers[member]
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
