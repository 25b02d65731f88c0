"""A method that another package adds by one file and one entry point: that of docs/own-method.md, installed."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from selftune import Classification, OnlineTuner, Optimization, Tune, tune
from selftune.errors import SettingError
from selftune.hyperparameters import Positive
from selftune.training.method_record import methods

PAGE = Path(__file__).parents[2] / "docs" / "own-method.md"
STUDY = """\
study: ahead
objective: {task: digits, hidden: [16], train_examples: 200}
regularizers: {weight_decay: {strength: {start: 0.1}}}
method: {name: look_ahead, ahead: 0.2, warmup_steps: 20}
budget: {steps: 60}
"""

ON_RAY = """\
import sys

import torch
from ray import tune
from selftune import Tune
from selftune.methods import Budget
from selftune.objectives.tasks.digits import Digits
from selftune.regularization.regularizer import regularizers
from selftune.schedulers import MethodScheduler, trainable
from selftune.schedulers.cluster import connected
from selftune.training import TrainerFactory, run_in_process
from selftune.training.method_record import methods

factory = TrainerFactory(Digits(hidden=(8,), train_examples=100), {"weight_decay": {"strength": Tune(0.1)}})
with connected():
    scheduler = MethodScheduler("look_ahead", steps=40, team_size=2, warmup_steps=10)
    results = tune.Tuner(
        trainable(factory),
        tune_config=scheduler.tune_config(),
        run_config=scheduler.run_config(storage_path=sys.argv[1], name="ahead", verbose=0),
    ).fit()
    assert not results.errors
form = methods["look_ahead"].network
here = form.make(Budget(steps=40), form.settings(warmup_steps=10), 2)
run_in_process(here, {member: factory(member) for member in range(2)})
assert torch.equal(here.hyperparameters, scheduler.teams[0].method.hyperparameters)
print("the same", here.hyperparameters.tolist())
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder where the package is installed; this process sees it, and one that is given the folder."""
    page = PAGE.read_text(encoding="utf-8")
    code = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    entry = re.search(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    folder = tmp_path / "installed"
    (folder / "my_package").mkdir(parents=True)
    (folder / "my_package" / "__init__.py").touch()
    (folder / "my_package" / "look_ahead.py").write_text(code, encoding="utf-8")
    metadata = folder / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    declared = entry.replace("[project.entry-points.", "[").replace('"', "")
    (metadata / "entry_points.txt").write_text(declared)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(methods, "_entries", dict(methods._entries))
    monkeypatch.setattr(methods, "_loaded", False)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


def blobs(seed, n=64):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=generator)
    return torch.randn(n, 6, generator=generator) + labels[:, None], labels


def objective():
    splits = [blobs(seed) for seed in range(3)]
    return Classification(lambda: nn.Linear(6, 3), *splits, Optimization(batch_size=16))


def python(*arguments, folder, place):
    """What a process says that sees the package."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=place,
        env=os.environ
        | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    ).stdout


@pytest.mark.usefixtures("package")
def test_tune_moves_hyperparameters_by_it():
    decay = {"weight_decay": {"strength": Tune(0.1)}}
    first, again = (
        tune(objective(), decay, steps=60, method="look_ahead", ahead=0.2, warmup_steps=20, learning_rate=0.05)
        for _ in range(2)
    )
    assert len(first.trajectory) == 8
    assert first.hyperparameters["weight_decay.strength"] != pytest.approx(0.1, rel=1e-3)
    assert first.hyperparameters == again.hyperparameters


@pytest.mark.usefixtures("package")
def test_its_hypergradient_has_a_closed_form_for_weight_decay():
    """The penalty pulls weights by strength times themselves, so one step ahead the loss falls along them."""
    torch.manual_seed(0)
    fixed = nn.Linear(6, 3).double()
    inputs, labels = blobs(0, 16)
    data = inputs.double(), labels
    still = Optimization(batch_size=16, learning_rate=1e-30)
    result = tune(
        Classification(lambda: copy.deepcopy(fixed), data, data, data, still),
        {"weight_decay": {"strength": Tune(0.3, domain=Positive())}},
        steps=1,
        method="look_ahead",
        ahead=0.2,
        warmup_steps=0,
    )
    loss = nn.functional.cross_entropy(fixed(data[0]), labels)
    (gradient,) = torch.autograd.grad(loss, [fixed.weight])
    expected = -0.2 * 0.3 * float((gradient * fixed.weight.detach()).sum())  # strength = exp(u)
    assert float(result.trajectory[0].hypergradient) == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("package")
def test_a_loop_of_ones_own_tunes_by_it():
    model = nn.Linear(6, 3)
    tuner = OnlineTuner(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        {"weight_decay": {"strength": Tune(0.1)}},
        loss=lambda outputs, batch: nn.functional.cross_entropy(outputs, batch[1], reduction="none"),
        validation=[blobs(1)],
        forward=lambda model, batch: model(batch[0]),
        steps=40,
        method="look_ahead",
        warmup_steps=10,
    )
    while not tuner.done:
        tuner.loss(blobs(0)).backward()
        tuner.step()
    assert len(tuner.trajectory) == 6


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"method": "look_ahead", "ahaed": 0.1}, "ahaed", "did you mean ahead"),
        ({"method": "look_aheda"}, "method", "did you mean look_ahead"),
        ({"method": "look_ahead", "work": 3}, "work", "give steps or seconds"),
    ],
)
def test_its_mistakes_are_said_like_those_of_other_methods(settings, key, words):
    with pytest.raises(SettingError, match=words) as error:
        tune(objective(), {"weight_decay": {"strength": Tune(0.1)}}, steps=40, **settings)
    assert error.value.key == key


def selftune(*arguments, **places):
    return python("-m", "selftune.cli", *arguments, **places)


def test_the_command_line_lists_shows_and_runs_it(package, tmp_path):
    study = tmp_path / "ahead.yaml"
    study.write_text(STUDY)
    listed = selftune("list", "methods", folder=package, place=tmp_path)
    assert re.search(
        r"look_ahead +network: Moves hyperparameters by the validation loss one gradient step", listed
    )
    shown = selftune("show", "look_ahead", folder=package, place=tmp_path)
    assert "ahead = 0.1" in shown
    assert "name: look_ahead" in shown
    selftune("run", study, "--local", "--output", tmp_path / "out", folder=package, place=tmp_path)
    assert (tmp_path / "out" / "summary.json").exists()


@pytest.mark.full
def test_ray_tune_drives_it_by_its_name(package, tmp_path):
    (tmp_path / "on_ray.py").write_text(ON_RAY)
    assert "the same" in python(tmp_path / "on_ray.py", tmp_path / "results", folder=package, place=tmp_path)
