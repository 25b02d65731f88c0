"""What a training step offers of itself: the quantities that the engine computes or that every batch has.

Objectives provide quantities, more of them follow from these, and some regularizers provide for others. Whatever
is asked for is computed once per step, when it is first asked for. All other quantities are declared beside the
task or the regularizer that brings them.
"""

from __future__ import annotations

from collections.abc import Iterable

from selftune.networks.inventory import Inventory
from selftune.regularization.quantity import Quantity
from selftune.regularization.quantity import quantities as quantities

_ENGINE = (
    # the batch
    Quantity("inputs", ("batch", ...), "number", "the examples"),
    Quantity("labels", ("batch",), "integer", "classes"),
    Quantity("targets", ("batch", "classes"), "float", "what the loss compares outputs with"),
    Quantity(
        "index", ("batch",), "integer", "position of every example in the training split, stable across epochs"
    ),
    Quantity("domains", ("batch",), "integer", "domain of every example"),
    Quantity("images", ("batch", "channels", "height", "width"), "number", "inputs that are images", of="inputs"),
    Quantity(
        "real_inputs",
        ("batch", ...),
        "float",
        "inputs of real numbers, which can be mixed or shifted, not whole ones like token ids",
        of="inputs",
    ),
    Quantity(
        "class_probabilities",
        None,
        "mark",
        "targets that are probabilities of classes, not real values to be predicted",
    ),
    # the network on it
    Quantity("logits", ("batch", "classes"), "float", "the network's outputs"),
    Quantity("probs", ("batch", "classes"), "float", "softmax of the logits", like="logits"),
    Quantity("losses", ("batch",), "float", "training loss of every example, before regularizers change it"),
    Quantity("features", ("batch", "dim"), "float", "what the last layer sees", like="logits"),
    Quantity("layer_features", None, "tensors", "list of (batch, ...) outputs of every layer"),
    Quantity(
        "parameters", None, "parameters", "the network's tensors by name, differentiable in functional calls"
    ),
    Quantity("kernels", None, "tensors", "list of (out, in, k, k) weights of convolutions"),
    Quantity("head", None, "tensors", "((classes, dim) weight, (classes,) bias) of the last layer, a linear one"),
    Quantity("head_weight", ("classes", "dim"), "float", "its weight"),
    Quantity("head_bias", ("classes",), "float", "its bias"),
    Quantity("batch_norm", None, "mark", "networks with batch normalisation"),
    Quantity("recurrent_layers", None, "mark", "networks with an nn.LSTM, nn.GRU or nn.RNN"),
    Quantity("embeddings", None, "mark", "networks with an nn.Embedding"),
    Quantity("branches", None, "mark", "networks with residual branches that can be skipped"),
    Quantity(
        "recompute",
        (),
        "float",
        "the training loss again, on the same batch with the same draws, at the current weights",
    ),
    Quantity("shards", None, "mark", "gradients of parts of the batch, which an aggregator combines"),
    # gradients of the training loss
    Quantity("gradients", None, "parameters", "the gradients by parameter name, after the backward pass"),
    Quantity(
        "domain_gradients",
        ("domains", "parameters"),
        "float",
        "gradient of every domain's mean loss, differentiable",
    ),
    Quantity(
        "example_gradients",
        ("batch", "parameters"),
        "float",
        "gradient of every example's loss by the parameters of the last layer",
    ),
    Quantity(
        "sample_gradients",
        ("samples", "parameters"),
        "float",
        "gradients of some examples' losses, by all parameters",
    ),
    Quantity("stage_accuracies", ("measurements", "stages"), "float", "accuracy on every stage's classes so far"),
    Quantity(
        "stage_boundaries", ("boundaries",), "integer", "measurements at which stages begin, and their number"
    ),
    # other weights of the same network
    Quantity("initial_parameters", None, "parameters", "the network's tensors by name at the start"),
    Quantity(
        "reference_logits",
        ("batch", "classes"),
        "float",
        "outputs of the network as it was at the start",
        like="logits",
    ),
    Quantity("reference_features", ("batch", "dim"), "float", "its features", like="features"),
    Quantity("reference_layer_features", None, "tensors", "list of (batch, ...) its layers' outputs"),
    Quantity("old_parameters", None, "parameters", "the network's tensors by name at the end of the last stage"),
    Quantity(
        "old_logits",
        ("batch", "classes"),
        "float",
        "outputs of the network as it was at the end of the last stage",
        like="logits",
    ),
    Quantity("old_features", ("batch", "dim"), "float", "its features", like="features"),
    Quantity("old_classes", ("classes",), "bool", "mask of the classes of earlier stages"),
    # where training stands
    Quantity("progress", (), "float", "share of the training steps that are done, in [0, 1)"),
    Quantity("epoch", (), "integer", "number of the epoch, from 0"),
    Quantity("epochs", (), "integer", "number of epochs of the run, or of the stage of a continual task"),
    Quantity("stage", (), "integer", "number of the stage of a continual task, from 0"),
    Quantity("learning_rate", (), "float", "current learning rate of the weights"),
    Quantity("examples", (), "integer", "number of training examples"),
    Quantity("classes", (), "integer", "number of classes"),
)
quantities.declare(*_ENGINE)

_DERIVED: dict[str, frozenset[str]] = {
    "probs": frozenset({"logits", "classes"}),
    "class_probabilities": frozenset({"targets", "classes"}),
    "losses": frozenset({"targets"}),
    "features": frozenset({"logits"}),
    "layer_features": frozenset({"logits"}),
    "kernels": frozenset({"parameters", "images"}),
    "head": frozenset({"logits", "parameters"}),
    "head_weight": frozenset({"logits", "parameters"}),
    "head_bias": frozenset({"logits", "parameters"}),
    "epoch": frozenset({"index"}),
    "epochs": frozenset({"index", "progress"}),
    "sample_gradients": frozenset({"targets", "parameters"}),
    "recompute": frozenset({"parameters"}),
    "shards": frozenset({"parameters"}),
    "gradients": frozenset({"parameters"}),
    "domain_gradients": frozenset({"parameters", "domains"}),
    "example_gradients": frozenset({"logits", "targets", "classes", "parameters"}),
    "initial_parameters": frozenset({"parameters"}),
    "reference_logits": frozenset({"logits"}),
    "reference_features": frozenset({"logits"}),
    "reference_layer_features": frozenset({"logits"}),
    "old_parameters": frozenset({"parameters", "stage"}),
    "old_logits": frozenset({"logits", "stage"}),
    "old_features": frozenset({"logits", "stage"}),
    "old_classes": frozenset({"labels", "classes", "stage"}),
}
"""Name -> what it is computed from, by the engine."""


def closure(offered: Iterable[str]) -> frozenset[str]:
    """Everything that follows from what is provided.

    >>> sorted(closure({"logits", "classes"}) & {"probs", "kernels"})
    ['probs']
    """
    given = frozenset(offered)
    return given | {name for name, needs in _DERIVED.items() if needs <= given}


def last_layer_mistake(needs: Iterable[str], inventory: Inventory) -> str | None:
    """Why what the last layer sees, or the layer itself, cannot be had of a network; None where it can.

    Args:
        needs: names of quantities.
    """
    wanted = sorted(name for name in needs if name in _OF_THE_LAST_LAYER or name.startswith("head"))
    if not wanted:
        return None
    name = inventory.last
    if name is None or not inventory.last_runs:
        used = "no weight" if name is None else f"a weight of {name or 'the network itself'}"
        return (
            f"needs {' and '.join(wanted)}, which are taken at the forward pass of the last layer; but the network"
            f" uses {used} last, outside of a layer's own forward pass"
        )
    layer = inventory[name]
    if not layer.linear and any(need.startswith("head") or need == "example_gradients" for need in wanted):
        needed = " and ".join(wanted)
        return f"needs {needed} of a linear last layer, but the last layer, {layer.shown}, is of type {layer.type}"
    return None


_OF_THE_LAST_LAYER = {"features", "example_gradients", "reference_features", "old_features"}
