"""What regularizers and diagnostics need is offered with the axes and the type that they need, or refused."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from selftune import tune
from selftune.errors import SettingError
from selftune.hyperparameters import Positive, Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.function_objective import FunctionObjective
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.optimization import Optimization
from selftune.registries.diagnostics import Measurement
from selftune.registries.reference import Reference
from selftune.regularization.composition import Regularizers
from selftune.regularization.decorators import penalty
from selftune.regularization.needs import from_signature
from selftune.regularization.regularizer import Regularizer, regularizers
from selftune.regularization.step_quantities import quantities

PAGE = Path(__file__).parents[2] / "docs" / "own-regularizer.md"
ABOUT = {"family": "test", "reference": Reference("test"), "strength": Positive(), "default": 0.1}


@pytest.fixture(autouse=True)
def _no_traces(monkeypatch):
    for registry in (regularizers, quantities):
        assert registry.names()  # loads the catalogue
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


class Tokens(NetworkObjective):
    """Puts out logits of every token of a sequence."""

    provides = frozenset({"inputs", "labels", "targets", "index", "logits", "parameters", "classes", "examples"})
    optimization = Optimization(batch_size=8)
    classes = 5

    def network(self):
        return nn.Sequential(nn.Embedding(5, 6), nn.Linear(6, 5))

    def splits(self):
        tokens = torch.arange(32 * 4).view(32, 4) % 5
        return {name: {"inputs": tokens, "labels": tokens} for name in ("train", "validation", "test")}

    def targets(self, labels):
        return F.one_hot(labels, 5).float()

    def loss(self, outputs, targets):
        return -(outputs.log_softmax(dim=-1) * targets).sum(dim=-1).mean(dim=-1)

    def validation_loss(self, outputs, labels):
        return self.loss(outputs, self.targets(labels))


def refused(name, objective, **settings):
    with pytest.raises(SettingError) as caught:
        Regularizers([regularizers[name](**settings)], objective)
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "confidence_penalty",
            "needs logits of axes (batch, classes), but Tokens offers logits of axes (batch, axis1, classes)",
        ),
        (
            "triplet",  # features follow the logits
            "needs features of axes (batch, dim), but Tokens offers features of axes (batch, axis1, dim)",
        ),
    ],
)
def test_other_axes_are_refused_in_a_sentence_that_names_both(name, sentence):
    assert refused(name, Tokens()) == f"{name} {sentence}; leave it out"


def test_an_objective_names_its_axes():
    class LanguageModel(Tokens):
        axes = {"logits": ("batch", "tokens", "classes")}  # noqa: RUF012

    assert "LanguageModel offers logits of axes (batch, tokens, classes)" in refused(
        "entropy_maximization", LanguageModel()
    )


def test_axes_of_what_another_regularizer_provides_follow_too():
    members = [regularizers["mean_teacher"](), regularizers["normalized_distillation"]()]
    with pytest.raises(SettingError, match=r"needs labels of axes \(batch,\), but Tokens offers labels of axes"):
        Regularizers(members, Tokens())


def test_what_is_written_for_any_axes_takes_them():
    @penalty(**ABOUT, needs={"logits": "logits"})
    def any_size(logits: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch"]:
        return logits.flatten(1).square().sum(dim=-1)

    @penalty(**ABOUT, needs={"logits": "logits"})
    def size(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch"]:
        return logits.square().sum(dim=-1)

    class OfAClass(Regularizer):
        name, family, kind = "of_a_class", "test", "penalty"
        needs = frozenset({"logits", "labels"})
        axes = {"logits": ("batch", ...), "labels": ("batch", ...)}  # noqa: RUF012

    Regularizers([regularizers["any_size"](), OfAClass()], Tokens())
    assert refused("size", Tokens()).startswith("size needs logits of axes (batch, classes), but Tokens")


def test_targets_have_the_axes_that_the_objective_gives_them():
    class Numbers(Tokens):
        def targets(self, labels):
            return labels

        def loss(self, outputs, targets):
            return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(dim=1)

        def validation_loss(self, outputs, labels):
            return self.loss(outputs, labels)

    Regularizers([regularizers["label_smoothing"]()], Tokens())  # every token has probabilities of classes
    assert "Numbers offers targets of type integer" in refused("label_smoothing", Numbers())


def test_types_are_checked():
    class Diabetes(Tokens):
        types = {"labels": "float"}  # noqa: RUF012

    @penalty(**ABOUT, needs={"labels": "labels"})
    def counts(labels: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch"]:
        return labels.float().sum(dim=-1)

    Regularizers([regularizers["counts"]()], Tokens())
    assert refused("counts", Diabetes()) == (
        "counts needs labels of type integer, but Diabetes offers labels of type float; leave it out"
    )


def test_outputs_that_are_no_tensor_have_no_axes():
    class Both(Tokens):
        def network(self):
            class Twice(nn.Linear):
                def forward(self, inputs):
                    return {"logits": super().forward(F.one_hot(inputs, 5).float())}

            return Twice(5, 5)

    assert "but Both offers logits of type structure" in refused("confidence_penalty", Both())


def test_what_functions_of_outputs_and_batch_give_is_seen():
    parts = [(torch.randn(8, 4), torch.arange(8) % 3)] * 2
    objective = FunctionObjective(
        lambda: nn.Linear(4, 3),
        lambda outputs, batch: F.cross_entropy(outputs, batch[1], reduction="none"),
        *parts,
        forward=lambda network, batch: network(batch[0]),
        quantities={
            "features": lambda outputs, batch: batch[0].unsqueeze(1),
            "distances": lambda outputs, batch: 0,
        },
        optimization=Optimization(batch_size=8),
    )
    assert "FunctionObjective offers features of axes (batch, axis1, dim)" in refused("triplet", objective)
    assert objective.quantities()["labels"].axes == ("batch",)
    assert objective.quantities()["losses"].axes == ("batch",)
    assert objective.quantities()["distances"].type == "integer"


def test_a_need_that_nobody_declared_takes_what_is_offered_under_its_name():
    data = torch.randn(32, 4), torch.arange(32) % 3
    extra = {"distances": (torch.rand(32, 7),) * 3}
    objective = Classification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=8), extra=extra)

    @penalty(**ABOUT, needs={"distances": "distances"})
    def near(distances):
        return distances.sum(dim=-1)

    @penalty(**ABOUT, needs={"distances": "distances"})
    def nearer(distances: Float[Tensor, "batch"]):
        return distances

    Regularizers([regularizers["near"]()], objective)
    assert "nearer needs distances of axes (batch,), but Classification offers" in refused("nearer", objective)


def test_images_are_inputs_of_four_axes():
    data = torch.randn(32, 3, 4), torch.arange(32) % 3
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3))  # noqa: E731
    objective = Classification(build, data, data, data, Optimization(batch_size=8))
    assert refused("cutout", objective).startswith(
        "cutout needs images (inputs that are images, of axes (batch, channels, height, width)), which"
        " Classification does not provide"
    )
    assert "inputs are of axes (batch, axis1, axis2) and type float" in refused("cutout", objective)
    pictures = torch.randn(32, 3, 2, 2), torch.arange(32) % 3
    Regularizers(
        [regularizers["cutout"]()],
        Classification(build, pictures, pictures, pictures, Optimization(batch_size=8)),
    )


def test_diagnostics_are_checked_by_their_signature():
    with pytest.raises(
        SettingError, match=r"softmax_collapse needs logits of axes \(batch, classes\), but Tokens"
    ):
        Measurement("softmax_collapse").check(Tokens())


def test_shapes_in_signatures_are_read_as_text_or_as_objects():
    def function(logits: Float[Tensor, "#batch *shape 3"], labels: "Int[Tensor, 'batch']", mask, scale: float): ...

    names = {"logits": "logits", "labels": "labels", "mask": "token_mask", "scale": "learning_rate"}
    found = from_signature(function, names)
    assert {name: (one.axes, one.type) for name, one in found.items()} == {
        "logits": (("batch", ..., "3"), "float"),
        "labels": (("batch",), "integer"),
    }


def test_what_would_do_nothing_is_refused():
    class Speaks(Regularizer):
        name, family, kind = "speaks", "test", "penalty"
        needs = frozenset({"logits"})
        axes = {"labels": ("batch", ...)}  # noqa: RUF012

    class Model(Tokens):
        types = {"rewards": "integer"}  # noqa: RUF012

    with pytest.raises(SettingError, match="speaks gives axes of labels, which is not among its needs"):
        Regularizers([Speaks()], Tokens())
    assert "Model gives types of rewards, which is not among its provides" in refused("mean_teacher", Model())

    def function(logits): ...

    with pytest.raises(SettingError, match="function has no argument 'logit' to receive logits"):
        penalty(**ABOUT, needs={"logit": "logits"})(function)


def test_the_page_s_objective_and_regularizer_share_a_quantity():
    text = PAGE.read_text(encoding="utf-8").partition("## A quantity of your own")[2]
    names = {"__name__": "somebodys_module"}
    exec(
        compile(re.search(r"^```python\n(.*?)^```$", text, re.M | re.S)[1], "a page", "exec", dont_inherit=True),
        names,
    )
    inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = inputs, inputs[:, :3].argmax(dim=1)
    objective = names["Triage"](lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=16))
    result = tune(objective, {"expected_cost": {"strength": Tune(0.1)}}, steps=40, warmup_steps=10)
    assert result.hyperparameters["expected_cost.strength"] != 0.1
    plain = Classification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=16))
    assert refused("expected_cost", plain).startswith("expected_cost needs costs, which Classification does not")
