"""The vocabulary of what a training step offers to regularizers and diagnostics.

Objectives declare what they provide; more follows from it (``DERIVED``), and some regularizers provide for others.
Whatever is asked for is computed once per step, when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from selftune.inventory import Inventory

PROVIDED = {
    # the batch
    "inputs": "(batch, ...) the examples",
    "labels": "(batch,) integer classes",
    "targets": "(batch, classes) what the loss compares outputs with",
    "index": "(batch,) position of every example in the training split, stable across epochs",
    "domains": "(batch,) integer domain of every example",
    "mixed": "number of examples, the first of the batch, that were mixed with others",
    "real_inputs": "marks inputs of real numbers, which can be mixed or shifted, not whole ones like token ids",
    "class_probabilities": "marks targets that are probabilities of classes, not real values to be predicted",
    "images": "marks inputs of shape (batch, channels, height, width)",
    # the network on it
    "logits": "(batch, classes) the network's outputs",
    "probs": "(batch, classes) softmax of the logits",
    "losses": "(batch,) training loss of every example, before regularizers change it",
    "features": "(batch, dim) what the last layer sees",
    "layer_features": "list of (batch, ...) outputs of every layer",
    "parameters": "the network's tensors by name, differentiable in functional calls",
    "kernels": "list of (out, in, k, k) weights of convolutions",
    "head": "((classes, dim) weight, (classes,) bias) of the last layer, a linear one",
    "head_weight": "(classes, dim) its weight",
    "head_bias": "(classes,) its bias",
    "batch_norm": "marks networks with batch normalisation",
    "branches": "marks networks with residual branches that can be skipped",
    "recompute": "() the training loss again, on the same batch with the same draws, at the current weights",
    "shards": "gradients of parts of the batch, which an aggregator combines",
    # gradients of the training loss
    "gradients": "the gradients by parameter name, after the backward pass",
    "domain_gradients": "(domains, parameters) gradient of every domain's mean loss, differentiable",
    "example_gradients": "(batch, head parameters) gradient of every example's loss in the last layer",
    "sample_gradients": "(samples, parameters) gradients of some examples' losses, by all parameters",
    "stage_accuracies": "(measurements, stages) accuracy on every stage's classes so far",
    "stage_boundaries": "(stages + 1,) measurements at which stages begin, and their number",
    # other weights of the same network
    "initial_parameters": "the network's tensors by name at the start",
    "reference_logits": "(batch, classes) outputs of the network as it was at the start",
    "reference_features": "(batch, dim) its features",
    "reference_layer_features": "list of (batch, ...) its layers' outputs",
    "old_parameters": "the network's tensors by name at the end of the last stage",
    "old_logits": "(batch, classes) outputs of the network as it was at the end of the last stage",
    "old_features": "(batch, dim) its features",
    "old_classes": "(classes,) mask of the classes of earlier stages",
    "teacher_logits": "(batch, classes) outputs of a teacher: an average of the weights, or another network",
    "teacher_parameters": "the teacher's tensors by name, where it is an average of the weights",
    # several inputs per example
    "view_a": "(batch, dim) embedding of one view of every example",
    "view_b": "(batch, dim) embedding of another view of it",
    "second_inputs": "(batch, ...) the inputs behind view_b, or a second crop",
    "policy_chosen": "(batch,) log-probability of the preferred response",
    "policy_rejected": "(batch,) log-probability of the other one",
    "reference_chosen": "(batch,) the same of the network at the start",
    "reference_rejected": "(batch,) the same of the network at the start",
    "token_logits": "(batch, tokens, vocabulary) outputs at every position",
    "reference_token_logits": "(batch, tokens, vocabulary) those of the network at the start",
    "token_mask": "(batch, tokens) True where a position counts",
    "reconstruction": "(batch, channels, height, width) an image that the network puts out",
    "samples": "(n, d) points that a generator puts out",
    "data": "(m, d) points to compare them with",
    "next_features": "(batch, dim) features of the following state and action",
    "rewards": "(batch,) rewards between the two",
    "architecture": "(blocks, operations) logits of a supernet's choices",
    "input_actions": "(layers, group, in, in) how a symmetry acts on every layer's inputs",
    "output_actions": "(layers, group, out, out) how it acts on its outputs",
    "masks": "Boolean tensors by parameter name, True where a weight of a sparse network is active",
    "neuron_weights": "(neurons, vectors, length) what hidden neurons read and write, cut into vectors",
    "factors": "list of ((out, rank), (rank, in)) factors of low-rank layers, and the weights they came from",
    # where training stands
    "progress": "share of the training steps that are done, in [0, 1)",
    "epoch": "number of the epoch, from 0",
    "epochs": "number of epochs of the run, or of the stage of a continual task",
    "stage": "number of the stage of a continual task, from 0",
    "learning_rate": "current learning rate of the weights",
    "examples": "number of training examples",
    "classes": "number of classes",
}
"""Name -> shape and meaning."""

DERIVED: dict[str, frozenset[str]] = {
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


def closure(provided: Iterable[str]) -> frozenset[str]:
    """Everything that follows from what is provided.

    >>> sorted(closure({"logits", "classes"}) & {"probs", "kernels"})
    ['probs']
    """
    known = frozenset(provided)
    return known | {name for name, needs in DERIVED.items() if needs <= known}
