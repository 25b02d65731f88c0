"""The response set of a converted network: what each hyperparameter does to the weights, to first order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from selftune.data.nested import mapped
from selftune.hypergradients.best_response.constants import constant_parameters, submodules_called
from selftune.hypergradients.best_response.dual import dual, total
from selftune.hypergradients.best_response.linearization import linearization
from selftune.hypergradients.best_response.mixing import Mixing
from selftune.hypergradients.best_response.report import ConversionReport, LayerReport
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse, TensorResponse
from selftune.hypergradients.best_response.rules.rule import Rule
from selftune.networks.modes import constant_buffers
from selftune.networks.network_state import compute_hooked_weights, has_hooked_weight
from selftune.networks.precision import typed_as, wide_type
from selftune.shapes import Float, Tensor


@dataclass(frozen=True)
class RespondingModule:
    """A module that computes with weights of each example's own.

    Args:
        rule: how.
        tensors: the parameters that respond: name in the module -> name in the network.
        batch_axis: which axis of its input runs over the examples.
        without_examples: whether none does.
        folded: how examples lie in a first axis that is longer than the batch (see ``ModuleUse``).
    """

    rule: Rule
    tensors: Mapping[str, str]
    batch_axis: int
    without_examples: bool = False
    folded: Literal["outer", "inner"] | None = None


@dataclass(frozen=True)
class RespondingTensor:
    """How one parameter tensor of a network may move.

    Args:
        rank: R, directions per row; 1 for a vector, whose entries move one by one.
        bound: its directions are drawn uniformly within plus and minus this.
        looked_up: whether all modules that hold it read some of its rows only.
        shared: whether it responds in weight space, to one h that the whole batch shares.
    """

    rank: int
    bound: float
    looked_up: bool = False
    shared: bool = False


def has_response(network: nn.Module) -> bool:
    """Whether a ``BestResponse`` has been made of a network, or of a part of it, and not been removed."""
    return any(_MARK in module.__dict__ for module in network.modules())


_MARK = "responds_to_hyperparameters"


def _key(parameter: str) -> str:
    """Registered names may not contain dots."""
    return parameter.replace(".", "/")


class BestResponse(nn.Module):
    """W(h) = W0 + sum over r of (V_r h) * W_r, row by row, and b(h) = b0 + (C h) * b_r in a network's tensors.

    W0 and b0, the elementary set, stay in the network under the names they had. The parameters of this module
    are the response set: ``gates`` (all V, then all C, one row per direction and row of a tensor: (rows, n)),
    ``bias_directions`` (all b_r, of every vector) and ``directions`` (W_r of each tensor of more axes, shape
    (R * rows, ...)). With a ``mixing``, gates see k coordinates of h, so that they are of shape (rows, k), and
    ``own`` has the entries of V for the hyperparameters that are the rows' own. They are in the widest type of the
    tensors, and in float32 at least. h is measured from the current hyperparameters: h = 0 is the plain network.
    Made by ``convert``.

    Source: "Delta-STN: Efficient Bilevel Optimization for Neural Networks using Structured Response Jacobians"
    (arXiv 2010.13514); R > 1 is not in the paper.

    >>> from selftune.hypergradients.best_response import convert
    >>> model, inputs = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(8, 3)
    >>> response = convert(model, hyperparameters=2, example=inputs, generator=torch.Generator().manual_seed(0))
    >>> bool((response.linearized(torch.randn(8, 2), inputs) == model(inputs)).all())
    True
    """

    model: nn.Module
    gates: nn.Parameter
    own: nn.Parameter | None
    mixing: Mixing | None
    bias_directions: nn.Parameter | None

    def __init__(
        self,
        model: nn.Module,
        modules: Mapping[str, RespondingModule],
        tensors: Mapping[str, RespondingTensor],
        hyperparameters: int,
        generator: torch.Generator,
        report: tuple[LayerReport, ...],
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__()
        # Not registered: the network's parameters are the elementary set, not this module's.
        self.__dict__["model"] = model
        self._responding_modules = {name: (model.get_submodule(name), each) for name, each in modules.items()}
        self.hyperparameters = hyperparameters
        self.fallbacks: dict[str, str] = {}
        self.report = ConversionReport(report, self.fallbacks)
        self._first_pass = True
        plain = dict(model.named_parameters())
        self._names = list(tensors)
        vectors = [name for name in tensors if plain[name].ndim <= 1]
        self._dense = [n for n in tensors if plain[n].ndim > 1 and not tensors[n].looked_up]
        self._looked_up = [n for n in tensors if plain[n].ndim > 1 and tensors[n].looked_up]
        self._vectors = vectors
        self._shared = [name for name, tensor in tensors.items() if tensor.shared]

        dtype = wide_type(*(plain[name].dtype for name in tensors))
        self.directions = nn.ParameterDict()
        drawn: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            own = plain[name]
            shape = (tensor.rank * own.shape[0], *own.shape[1:]) if own.ndim > 1 else (own.numel(),)
            drawn[name] = _drawn(shape, tensor.bound, dtype, own.device, generator)
            if own.ndim > 1:
                self.directions[_key(name)] = nn.Parameter(drawn[name])
        self._rows = {name: len(drawn[name]) for name in (*self._dense, *self._looked_up, *vectors)}
        like = plain[next(iter(tensors))]
        width = hyperparameters if mixing is None else mixing.width
        self.gates = nn.Parameter(torch.zeros(sum(self._rows.values()), width, dtype=dtype, device=like.device))
        self.__dict__["mixing"] = mixing
        columns = torch.empty(0, 0) if mixing is None else mixing.own_columns(self._rows).to(like.device)
        self._own_columns, self._owns = columns.clamp(min=0).to(torch.int64), (columns >= 0).to(dtype)
        entries = nn.Parameter(torch.zeros_like(self._owns)) if columns.numel() else None
        self.register_parameter("own", entries)
        biases = [drawn[name] for name in vectors]
        self.register_parameter("bias_directions", nn.Parameter(torch.cat(biases)) if biases else None)
        model.__dict__[_MARK] = True

    @property
    def elementary(self) -> dict[str, nn.Parameter]:
        """W0 and b0, the tensors that respond, by their names in the network."""
        plain = dict(self.model.named_parameters())
        return {name: plain[name] for name in self._names}

    @property
    def responding(self) -> frozenset[str]:
        """Names of the parameters that respond."""
        return frozenset(self._names)

    @property
    def shared_draw(self) -> bool:
        """Whether passes take one row of h, which the whole batch shares: tensors respond in weight space."""
        return bool(self._shared)

    def linearized(self, h: Float[Tensor, "batch n"], *args: Any, **kwargs: Any) -> Any:
        """f(x; W0) + J_w f(x; W0) · (W(h) - W0), differentiable in the response set and h; W0 is a constant.

        Args:
            h: one row per example, or one row for all.
            args, kwargs: of the network.

        Returns:
            What the network returns. Buffers, such as running statistics, stay as they are; ``detach()`` and
            ``torch.no_grad()`` inside the network make constants, as they do for gradients.

        Raises:
            ValueError: if h has the wrong shape.
            NotImplementedError: if an operation of the network cannot be linearised; the message says what to do.
        """
        graph = torch.is_grad_enabled()
        with (
            constant_buffers(self.model),
            constant_parameters(self.model),
            self._responding(h, linearized=True) as tensors,
            linearization(self.fallbacks, self._first_pass),
        ):
            output = total(self._run(tensors, dual, args, kwargs))
        self._first_pass = False
        return output if graph else mapped(Tensor.detach, output)

    def perturbed(self, h: Float[Tensor, "batch n"], *args: Any, **kwargs: Any) -> Any:
        """f(x; W(h)) with the weights of row i for example i; ordinary autograd in h, the response set and W0.

        A pass like any other: norm layers in training mode update their statistics, unless it is made within
        ``selftune.networks.modes.constant_buffers(model)``.

        Args:
            h: one row per example, or one row for all.
            args, kwargs: of the network.

        Raises:
            ValueError: if h has the wrong shape.
        """
        with self._responding(h, linearized=False) as tensors:
            return self._run(tensors, torch.add, args, kwargs)

    @contextmanager
    def perturbing(self, h: Float[Tensor, "batch n"]) -> Iterator[None]:
        """Within, calling the network itself is ``perturbed``; what responds in weight space stays as it is."""
        with self._responding(h, linearized=False):
            yield

    def _run(
        self, tensors: Mapping[str, TensorResponse], moved: Callable[..., Tensor], args: Any, kwargs: Any
    ) -> Any:
        """A pass, with W0 ``moved`` by its change in place of tensors that respond in weight space."""
        if not self._shared:
            return self.model(*args, **kwargs)
        plain = self.elementary
        built = {}
        for name in self._shared:
            (change,) = tensors[name].change(plain[name])
            built[name] = moved(plain[name], typed_as(change, plain[name]))
        try:
            return torch.func.functional_call(self.model, built, args, kwargs)
        finally:
            for module in self.model.modules():
                if has_hooked_weight(module):
                    compute_hooked_weights(module)

    @contextmanager
    def _responding(self, h: Tensor, linearized: bool) -> Iterator[dict[str, TensorResponse]]:
        if h.dim() != 2 or h.shape[1] != self.hyperparameters:
            raise ValueError(f"h must have shape (batch, {self.hyperparameters}), got {tuple(h.shape)}")
        if self._shared and len(h) != 1:
            raise ValueError(
                f"h must have one row, which the whole batch shares, because tensors respond in weight space "
                f"({self._shared[0]!r}, ...), got {len(h)}; without_rule='plain' leaves them plain"
            )
        if not self._names:
            raise RuntimeError("the best response was removed from this network; convert it again")
        h = h.to(self.gates.dtype)
        seen = h if self.mixing is None else self.mixing.mixed(h)
        tensors = self._tensors(h, seen)
        modules: list[nn.Module] = []
        with submodules_called():
            try:
                for name, (module, responding) in self._responding_modules.items():
                    own = {local: tensors[full] for local, full in responding.tensors.items()}
                    response = ModuleResponse(
                        module, own, seen, linearized, responding.batch_axis, responding.without_examples
                    )
                    module.__dict__["forward"] = _Forward(name, responding, response)
                    modules.append(module)
                yield tensors
            finally:
                for module in modules:
                    module.__dict__.pop("forward", None)

    def _tensors(self, h: Float[Tensor, "batch n"], seen: Float[Tensor, "batch k"]) -> dict[str, TensorResponse]:
        """How each tensor moves at ``h``, of which gates see ``seen``."""
        graph = torch.is_grad_enabled()
        sizes = [self._rows[name] for name in self._dense]
        tables = [self._rows[name] for name in self._looked_up]
        vectors = [self._rows[name] for name in self._vectors]
        dense_gates, *table_gates, vector_gates = torch.split(self.gates, [sum(sizes), *tables, sum(vectors)])

        def directions(name: str) -> Tensor:
            kept: Tensor = self.directions[_key(name)]
            return kept if graph else kept.detach()

        result: dict[str, TensorResponse] = {}
        dense, shifts = F.linear(seen, dense_gates), None
        if self.own is not None:
            own = self._own_moves(h)
            dense, shifts = dense + own[:, : sum(sizes)], own[:, len(own[0]) - sum(vectors) :]
        moves = torch.split(dense, sizes, 1) if sizes else ()
        first = 0
        for name, moved in zip(self._dense, moves, strict=True):
            result[name] = TensorResponse(moved, directions(name), dense_gates, first)
            first += self._rows[name]
        for name, table in zip(self._looked_up, table_gates, strict=True):
            result[name] = TensorResponse(None, directions(name), table, 0)
        if self.bias_directions is not None:
            # b_r goes to C (rows x n), which is smaller than C h (batch x rows).
            shifted = F.linear(seen, vector_gates * self.bias_directions[:, None])
            if shifts is not None:
                shifted = shifted + shifts * self.bias_directions
            for name, moved in zip(self._vectors, torch.split(shifted, vectors, 1), strict=True):
                result[name] = TensorResponse(moved)
        return result

    def _own_moves(self, h: Float[Tensor, "batch n"]) -> Float[Tensor, "batch rows"]:
        """What each row's own hyperparameters do to it."""
        assert self.own is not None
        of_rows = h.index_select(1, self._own_columns.flatten()).view(len(h), *self.own.shape)
        return (of_rows * (self.own * self._owns)).sum(-1)

    def contract(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, "n"]:
        """The hypergradient at h = 0: dL/dh of L(W(h)) for h shared by all examples.

        Sum over layers and rows i of <dL/dW0_i, W_r,i> V_i + dL/db0_i b_r,i C_i, so that one plain backward
        pass is all that a validation step needs.

        Args:
            gradients: dL/dW0 and dL/db0 of every tensor under its name in ``elementary``.

        Raises:
            ValueError: if a gradient is missing.
        """
        missing = [name for name in self._names if gradients.get(name) is None]
        if missing:
            raise ValueError(f"no gradient for {', '.join(missing)}; give one for each name in elementary")
        parts = []
        for name in (*self._dense, *self._looked_up):
            direction = self.directions[_key(name)]
            given = gradients[name]
            gradient = (given.to_dense() if given.is_sparse else given).flatten(1).to(direction.dtype)
            directed = direction.view(-1, *gradient.shape)
            parts.append(torch.linalg.vecdot(directed, gradient).flatten())
        if self.bias_directions is not None:
            shifts = torch.cat([gradients[name].flatten() for name in self._vectors]).to(self.gates.dtype)
            parts.append(shifts * self.bias_directions)
        along = torch.cat(parts)
        result: Tensor = along @ self.gates
        if self.mixing is not None:
            result = self.mixing.unmixed(result)
        if self.own is not None:
            of_own = along[:, None] * (self.own * self._owns)
            result = result.index_add(0, self._own_columns.flatten(), of_own.flatten())
        return result

    def weights(self, h_row: Float[Tensor, "n"]) -> dict[str, Tensor]:
        """W(h) and b(h) of the tensors that respond by their names in the network; W0 and b0 are constants.

        Raises:
            ValueError: if ``h_row`` has the wrong shape.
        """
        if h_row.shape != (self.hyperparameters,):
            raise ValueError(f"h_row must have shape ({self.hyperparameters},), got {tuple(h_row.shape)}")
        return {
            name: tensor.detach() + change
            for (name, tensor), change in zip(self.elementary.items(), self._changes(h_row).values(), strict=True)
        }

    def _changes(self, h_row: Float[Tensor, "n"]) -> dict[str, Tensor]:
        """W(h) - W0 of the tensors that respond."""
        plain = self.elementary
        h = h_row.to(self.gates.dtype)
        moves = self.gates @ (h if self.mixing is None else self.mixing.mixed(h[None])[0])
        if self.own is not None:
            moves = moves + self._own_moves(h[None])[0]
        vectors = sum(self._rows[name] for name in self._vectors)
        moved, shift = torch.split(moves, [len(moves) - vectors, vectors])
        matrices = (*self._dense, *self._looked_up)
        result: dict[str, Tensor] = {}
        for name, rows in zip(matrices, torch.split(moved, [self._rows[n] for n in matrices]), strict=True):
            directed = self.directions[_key(name)].flatten(1) * rows[:, None]
            result[name] = directed.view(-1, *plain[name].shape).sum(0)
        if self.bias_directions is not None:
            shifts = torch.split(shift * self.bias_directions, [self._rows[n] for n in self._vectors])
            for name, rows in zip(self._vectors, shifts, strict=True):
                result[name] = rows.view(plain[name].shape)
        return {name: result[name] for name in self._names}

    def remove(self) -> None:
        """Gives the plain network back."""
        self.model.__dict__.pop(_MARK, None)
        self._responding_modules.clear()
        self._names.clear()


class _Forward:
    """Stands in for a module's forward during a pass."""

    __slots__ = ("folded", "name", "response", "rule")

    def __init__(self, name: str, responding: RespondingModule, response: ModuleResponse) -> None:
        self.name = name
        self.rule = responding.rule
        self.folded = responding.folded
        self.response = response

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        response = self.response
        if response.linearized and not torch._C._is_fwd_grad_enabled():  # under no_grad networks mean constants
            return type(response.module).forward(response.module, *args, **kwargs)
        if not response.linearized or self.rule.intercepted:
            return self._respond(args, kwargs)
        with torch._C.DisableTorchFunction():
            return self._respond(args, kwargs)

    def _respond(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        response = self._of_examples(args, kwargs)
        return self.rule.forward(response.module, response, *args, **kwargs)

    def _of_examples(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModuleResponse:
        """The response, whose rows of h must belong to the examples of the input."""
        rows = len(self.response.h)
        if rows == 1 or self.response.without_examples:
            return self.response
        input = args[0] if args else next(iter(kwargs.values()))
        examples = input.shape[self.response.batch_axis] if isinstance(input, Tensor) else rows
        if self.folded is not None and examples % rows == 0:
            return self.response.repeated(examples // rows, self.folded == "outer")
        if examples != rows:
            raise ValueError(
                f"layer {self.name!r} sees {examples} examples and the hyperparameters have {rows} rows; "
                "give one row per example"
            )
        return self.response


def _drawn(shape: Any, bound: float, dtype: torch.dtype, device: Any, generator: torch.Generator) -> Tensor:
    """Directions of a tensor, drawn where the generator lives, so that it gives the same ones on every device."""
    drawn = torch.empty(shape, dtype=dtype, device=generator.device)
    return drawn.uniform_(-bound, bound, generator=generator).to(device)
