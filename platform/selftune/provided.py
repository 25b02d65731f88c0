"""What a training step offers of itself: the quantities that the engine computes or that every batch has.

Objectives provide quantities, more of them follow from these, and some regularizers provide for others. Whatever
is asked for is computed once per step, when it is first asked for. All other quantities are declared beside the
task or the regularizer that brings them.
"""

from __future__ import annotations

from collections.abc import Iterable

from selftune.inventory import Inventory
from selftune.quantity import Quantity
from selftune.quantity import quantities as quantities

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
        frozenset({"targets", "classes"}),
    ),
    # the network on it
    Quantity("logits", ("batch", "classes"), "float", "the network's outputs"),
    Quantity(
        "probs",
        ("batch", "classes"),
        "float",
        "softmax of the logits",
        frozenset({"logits", "classes"}),
        like="logits",
    ),
    Quantity(
        "losses",
        ("batch",),
        "float",
        "training loss of every example, before regularizers change it",
        frozenset({"targets"}),
    ),
    Quantity(
        "features", ("batch", "dim"), "float", "what the last layer sees", frozenset({"logits"}), like="logits"
    ),
    Quantity(
        "layer_features", None, "tensors", "list of (batch, ...) outputs of every layer", frozenset({"logits"})
    ),
    Quantity(
        "parameters", None, "parameters", "the network's tensors by name, differentiable in functional calls"
    ),
    Quantity(
        "kernels",
        None,
        "tensors",
        "list of (out, in, k, k) weights of convolutions",
        frozenset({"parameters", "images"}),
    ),
    Quantity(
        "head",
        None,
        "tensors",
        "((classes, dim) weight, (classes,) bias) of the last layer, a linear one",
        frozenset({"logits", "parameters"}),
    ),
    Quantity("head_weight", ("classes", "dim"), "float", "its weight", frozenset({"logits", "parameters"})),
    Quantity("head_bias", ("classes",), "float", "its bias", frozenset({"logits", "parameters"})),
    Quantity("batch_norm", None, "mark", "networks with batch normalisation"),
    Quantity("branches", None, "mark", "networks with residual branches that can be skipped"),
    Quantity(
        "recompute",
        (),
        "float",
        "the training loss again, on the same batch with the same draws, at the current weights",
        frozenset({"parameters"}),
    ),
    Quantity(
        "shards",
        None,
        "mark",
        "gradients of parts of the batch, which an aggregator combines",
        frozenset({"parameters"}),
    ),
    # gradients of the training loss
    Quantity(
        "gradients",
        None,
        "parameters",
        "the gradients by parameter name, after the backward pass",
        frozenset({"parameters"}),
    ),
    Quantity(
        "domain_gradients",
        ("domains", "parameters"),
        "float",
        "gradient of every domain's mean loss, differentiable",
        frozenset({"parameters", "domains"}),
    ),
    Quantity(
        "example_gradients",
        ("batch", "parameters"),
        "float",
        "gradient of every example's loss by the parameters of the last layer",
        frozenset({"logits", "targets", "classes", "parameters"}),
    ),
    Quantity(
        "sample_gradients",
        ("samples", "parameters"),
        "float",
        "gradients of some examples' losses, by all parameters",
        frozenset({"targets", "parameters"}),
    ),
    Quantity("stage_accuracies", ("measurements", "stages"), "float", "accuracy on every stage's classes so far"),
    Quantity(
        "stage_boundaries", ("boundaries",), "integer", "measurements at which stages begin, and their number"
    ),
    # other weights of the same network
    Quantity(
        "initial_parameters",
        None,
        "parameters",
        "the network's tensors by name at the start",
        frozenset({"parameters"}),
    ),
    Quantity(
        "reference_logits",
        ("batch", "classes"),
        "float",
        "outputs of the network as it was at the start",
        frozenset({"logits"}),
        like="logits",
    ),
    Quantity(
        "reference_features", ("batch", "dim"), "float", "its features", frozenset({"logits"}), like="features"
    ),
    Quantity(
        "reference_layer_features",
        None,
        "tensors",
        "list of (batch, ...) its layers' outputs",
        frozenset({"logits"}),
    ),
    Quantity(
        "old_parameters",
        None,
        "parameters",
        "the network's tensors by name at the end of the last stage",
        frozenset({"parameters", "stage"}),
    ),
    Quantity(
        "old_logits",
        ("batch", "classes"),
        "float",
        "outputs of the network as it was at the end of the last stage",
        frozenset({"logits", "stage"}),
        like="logits",
    ),
    Quantity(
        "old_features", ("batch", "dim"), "float", "its features", frozenset({"logits", "stage"}), like="features"
    ),
    Quantity(
        "old_classes",
        ("classes",),
        "bool",
        "mask of the classes of earlier stages",
        frozenset({"labels", "classes", "stage"}),
    ),
    # where training stands
    Quantity("progress", (), "float", "share of the training steps that are done, in [0, 1)"),
    Quantity("epoch", (), "integer", "number of the epoch, from 0", frozenset({"index"})),
    Quantity(
        "epochs",
        (),
        "integer",
        "number of epochs of the run, or of the stage of a continual task",
        frozenset({"index", "progress"}),
    ),
    Quantity("stage", (), "integer", "number of the stage of a continual task, from 0"),
    Quantity("learning_rate", (), "float", "current learning rate of the weights"),
    Quantity("examples", (), "integer", "number of training examples"),
    Quantity("classes", (), "integer", "number of classes"),
)
quantities.declare(*_ENGINE)

_DERIVED = {quantity.name: quantity.follows_from for quantity in _ENGINE if quantity.follows_from is not None}


def closure(provided: Iterable[str]) -> frozenset[str]:
    """Everything that follows from what is provided.

    >>> sorted(closure({"logits", "classes"}) & {"probs", "kernels"})
    ['probs']
    """
    given = frozenset(provided)
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
