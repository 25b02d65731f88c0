"""Digests of objectives, by which another call of ``tune`` is told from the same one."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import torch

from selftune.data import SPLITS
from selftune.data.kinds import examples_of, is_held
from selftune.data.places import places_in, shown_place
from selftune.hypergradients.oracle import Oracle
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.shapes import Tensor


def plain_text(value: object) -> str:
    """``repr`` without addresses, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def network_digest(objective: NetworkObjective) -> str:
    """A digest of the network as it is built, the data, and how it is trained."""
    digest = hashlib.sha256()
    structure = objective.structure()
    shapes = [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in structure.state_dict().items()]
    public = {name: value for name, value in vars(objective).items() if not name.startswith("_")}
    simple = (bool, int, float, str, tuple)
    settings = {name: value for name, value in public.items() if isinstance(value, simple)}
    about = (type(objective).__qualname__, plain_text(structure), shapes, sorted(settings.items()))
    optimization = (objective.optimization, objective.validation_batch_size, objective.balanced_by)
    digest.update(plain_text((*about, *optimization, *objective.hyperparameters)).encode())
    for split in SPLITS:
        data = objective.data(split)
        if not is_held(data):
            digest.update(f"{split} {type(data).__qualname__} {examples_of(data)}".encode())
            continue
        for place, tensor in places_in(data):
            _add(digest, f"{split} {shown_place(place)}", tensor)
    for stage in objective.stages():
        _add(digest, str(stage.steps), stage.index)
    return digest.hexdigest()


def smooth_digest(objective: SmoothObjective) -> str:
    """A digest of both levels: their hyperparameters, and values and slopes at a point, to six digits."""
    oracle = Oracle(objective)
    start = oracle.start_x()
    x = torch.linspace(-1, 1, oracle.n, dtype=start.dtype, device=start.device)
    u = oracle.start_u()
    upper, slope = oracle.upper_value_and_grad(x, u)
    lower, gradient = oracle.value_and_grad(x, u)
    numbers = [lower, float(gradient.norm()), upper, float(slope.norm())]
    seen = [f"{number:.6g}" for number in numbers]
    return hashlib.sha256(
        plain_text((type(objective).__qualname__, objective.hyperparameters, oracle.n, seen)).encode()
    ).hexdigest()


def _add(digest: Any, label: str, tensor: Tensor) -> None:
    digest.update(f"{label} {tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
