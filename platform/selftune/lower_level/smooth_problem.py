"""A smooth problem of one's own: two functions and data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from selftune.data.nested import rows_of, size_of
from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval, Positive, Tune
from selftune.hyperparameters.domain import Domain
from selftune.lower_level.finite_sum import Examples, FiniteSum
from selftune.lower_level.lanczos import lanczos
from selftune.lower_level.proximal_terms import ProximalTerm
from selftune.lower_level.smooth_objective import Constants, NotStronglyConvex, SmoothObjective, Tree
from selftune.shapes import Float, Tensor

Level = Callable[[Tree, Mapping[str, Any], Any], Tensor]
"""(parameters, values of the hyperparameters, data) -> a number, a tensor of shape ()."""

Proximal = Callable[[Tree, Mapping[str, Any], float], Tree]

Terms = Callable[[Mapping[str, Any], Mapping[str, Tensor]], Mapping[str, ProximalTerm]]

Constant = float | Callable[[Mapping[str, Any]], float] | None
"""A number, a function of the hyperparameters' values, or None: estimated."""

_STEPS = 20  # of Lanczos per estimate
_SAFETY = 2.0  # a smallest Ritz value lies above the smallest eigenvalue
_MARGIN = 1.1  # a largest one below the largest


class SmoothProblem(SmoothObjective):
    """min over u of ``upper(x(u), u)``, where ``x(u)`` minimises a strongly convex, smooth ``lower(., u)``.

    Both are functions of (parameters, values, data) in plain torch operations, without random numbers: named
    tensors, the values of all hyperparameters by name, and the data of their split.

    Args:
        lower: the training loss with whatever regularizes it; gets ``train``.
        upper: the validation loss; gets ``validation``, and ``test`` for the metric ``test_loss``.
        parameters: named tensors where the lower-level solver starts, all of one type and on one device.
        hyperparameters: by name. A ``Tune`` is tuned: its start is a number, a mapping from part to number, or a
            tensor of any shape, every entry of which is tuned by itself; its domain is that of positive numbers
            unless it says another. A number or a tensor is fixed. The functions get values in the shape given.
        train, validation, test: data, passed on as they are; None where the functions hold their own.
        strong_convexity, smoothness: the smallest and the largest eigenvalue of the lower level's Hessian in the
            parameters, or bounds of them: numbers, or functions of the hyperparameters' values.
        upper_smoothness: the largest eigenvalue, in size, of the upper level's Hessian in the parameters, or a
            bound.
        upper_convex: whether the upper level is convex in the parameters.
        terms: (values, slopes) -> terms of the lower level that are not smooth, such as ``L1Norm``, by the
            parameter each acts on; as ``SmoothObjective.terms``. Needs ``solver="proximal_gradient"``.
        proximal: (parameters, values, step) -> parameters: for a term of another kind, its proximal map.
        finite_sum: whether both functions are means over the examples along the first axis of their data, so that
            they can be called with some of them: what ``method="stochastic_bilevel"`` needs.

    Constants that are not given are estimated at every value of the hyperparameters, by 20 products with the
    Hessian at ``parameters``, and give way to the curvatures that solves meet. Given ones are compared with these.
    With all three given every accepted step is proven to lower the upper level; the bound of the hypergradient's
    error is an estimate, so nothing is called certified. For that write a ``SmoothObjective``, with all constants.

    Raises:
        SettingError: if a start is not of its domain, nothing is tuned, or the parameters are not of one type.

    >>> x, y = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    >>> def lower(parameters, values, data):
    ...     inputs, targets = data
    ...     penalty = values["strength"] @ parameters["weight"].square()
    ...     return (inputs @ parameters["weight"] - targets).square().mean() + penalty
    >>> def upper(parameters, values, data):
    ...     inputs, targets = data
    ...     return (inputs @ parameters["weight"] - targets).square().mean()
    >>> problem = SmoothProblem(
    ...     lower,
    ...     upper,
    ...     parameters={"weight": torch.zeros(3, dtype=torch.float64)},
    ...     hyperparameters={"strength": Tune(torch.full((3,), 0.1))},
    ...     train=(x, y),
    ...     validation=(x, 0.5 * y),
    ... )
    >>> problem.hyperparameters[0].names
    ('strength[0]', 'strength[1]', 'strength[2]')
    """

    def __init__(
        self,
        lower: Level,
        upper: Level,
        parameters: Mapping[str, Tensor],
        hyperparameters: Mapping[str, Any],
        *,
        train: Any = None,
        validation: Any = None,
        test: Any = None,
        strong_convexity: Constant = None,
        smoothness: Constant = None,
        upper_smoothness: Constant = None,
        upper_convex: bool = False,
        terms: Terms | None = None,
        proximal: Proximal | None = None,
        finite_sum: bool = False,
    ) -> None:
        self._lower, self._upper = lower, upper
        self._start = _parameters(parameters)
        self._data = {"train": train, "validation": validation, "test": test}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.hyperparameters = tuple(self._hyperparameter(name, value) for name, value in hyperparameters.items())
        if not any(h.tuned for h in self.hyperparameters):
            raise SettingError("hyperparameters", "nothing is tuned; make one a Tune, such as Tune(0.1)")
        self._given = {"strong_convexity": strong_convexity, "smoothness": smoothness}
        self._given["upper_smoothness"] = upper_smoothness
        self._upper_convex = upper_convex
        if terms is not None and proximal is not None:
            raise SettingError("proximal", "is made from terms; give either")
        self._terms, self._proximal = terms, proximal
        self._finite_sum = finite_sum and self._on_examples()
        for key, level in (("lower", self.lower), ("upper", self.upper)):
            _check_level(key, level(self._start, self._start_values()))

    def _hyperparameter(self, name: str, value: Any) -> Hyperparameter:
        tuned = isinstance(value, Tune)
        start, domain = (value.start, value.domain) if isinstance(value, Tune) else (value, None)
        parts: tuple[str, ...] = ()
        if isinstance(start, Mapping):
            parts = tuple(start)
            start = torch.tensor(list(start.values()), dtype=torch.float64)
        try:
            tensor = torch.as_tensor(start, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise SettingError(name, f"must be a number, a tensor or a Tune of one, got {start!r}") from error
        if tensor.ndim and not parts:
            indices = torch.cartesian_prod(*(torch.arange(size) for size in tensor.shape)).reshape(-1, tensor.ndim)
            parts = tuple(",".join(map(str, index)) for index in indices.tolist())
        self._shapes[name] = tuple(tensor.shape)
        entries = tensor.reshape(-1).tolist()
        if tuned:
            own: Domain = Positive() if domain is None else domain
            wrong = next((entry for entry in entries if not own.is_interior(entry)), None)
            if wrong is not None:
                hint = "; give a Tune a domain for others, such as Interval()" if domain is None else ""
                raise SettingError(name, f"must start inside the bounds of {own.describe()}, got {wrong:g}{hint}")
        else:
            own = Interval()
            if not all(map(math.isfinite, entries)):
                raise SettingError(name, "must be finite")
        number = tuple(entries) if tensor.ndim else entries[0]
        return Hyperparameter(name, own, number, parts, tuned=tuned, shared=True)

    def _start_values(self) -> dict[str, Tensor]:
        like = next(iter(self._start.values()))
        return {h.name: torch.as_tensor(h.value, dtype=torch.float64).to(like) for h in self.hyperparameters}

    def shaped(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the hyperparameters, as a ``Space`` gives them, in the shapes of their starts."""
        return {name: values[name].reshape(shape) for name, shape in self._shapes.items()}

    def parameters(self) -> dict[str, Tensor]:
        return dict(self._start)

    def lower(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        return self._lower(parameters, self.shaped(values), self._data["train"])

    def upper(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        return self._upper(parameters, self.shaped(values), self._data["validation"])

    def _on_examples(self) -> FiniteSum:
        examples = {}
        for split in ("train", "validation"):
            try:
                examples[split] = size_of(self._data[split])
            except SettingError as error:
                reason = "must hold a tensor with the examples along its first axis, for finite_sum"
                raise SettingError(split, reason) from error
        return FiniteSum(self._lower_on, self._upper_on, examples["train"], examples["validation"])

    def _lower_on(self, parameters: Tree, values: Mapping[str, Any], examples: Examples) -> Float[Tensor, ""]:
        return self._lower(parameters, self.shaped(values), self._some("train", examples))

    def _upper_on(self, parameters: Tree, values: Mapping[str, Any], examples: Examples) -> Float[Tensor, ""]:
        return self._upper(parameters, self.shaped(values), self._some("validation", examples))

    def _some(self, split: str, examples: Examples) -> Any:
        return self._data[split] if examples is None else rows_of(self._data[split], examples)

    def finite_sum(self) -> FiniteSum | None:
        return self._finite_sum or None

    def metrics(self, parameters: Tree, values: Mapping[str, Any]) -> dict[str, float]:
        if self._data["test"] is None:
            return {}
        return {"test_loss": float(self._upper(parameters, self.shaped(values), self._data["test"]))}

    def proximal(self, parameters: Tree, values: Mapping[str, Any], step: float) -> Tree | None:
        if self._proximal is None:
            return super().proximal(parameters, values, step)
        return self._proximal(parameters, self.shaped(values), step)

    def terms(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Mapping[str, ProximalTerm]:
        if self._terms is None:
            return {}
        shapes = {name: shape for name, shape in self._shapes.items() if name in slopes}
        return self._terms(self.shaped(values), {name: slopes[name].reshape(s) for name, s in shapes.items()})

    def constants(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Constants:
        shaped = self.shaped(values)
        known = {
            name: constant(shaped) if callable(constant) else constant for name, constant in self._given.items()
        }
        mu, L, L_g = (known[name] for name in ("strong_convexity", "smoothness", "upper_smoothness"))
        estimated, products = None in (mu, L, L_g), 0
        if mu is None or L is None:
            smallest, largest, products = self._spectrum(self.lower, values)
            if mu is None and smallest <= 0:
                raise NotStronglyConvex(smallest)
            mu = smallest / _SAFETY if mu is None else mu
            L = max(_MARGIN * largest, mu) if L is None else L
        if L_g is None:
            smallest, largest, _ = self._spectrum(self.upper, values)
            L_g = _MARGIN * max(-smallest, largest)
        return Constants(
            strong_convexity=float(mu),
            smoothness=float(L),
            hessian_lipschitz=0.0,  # both are estimated where a bound needs them
            jacobian_lipschitz=0.0,
            upper_smoothness=float(L_g),
            upper_convex=self._upper_convex,
            certified=False,
            estimated=estimated,
            products=products,
        )

    def _spectrum(
        self, level: Callable[[Tree, Mapping[str, Any]], Tensor], values: Mapping[str, Any]
    ) -> tuple[float, float, int]:
        """(smallest, largest) Ritz value of a level's Hessian at the start parameters, and products spent."""
        names = list(self._start)
        with torch.enable_grad():
            leaves = [self._start[name].detach().requires_grad_() for name in names]
            value = level(dict(zip(names, leaves, strict=True)), values)
            if not value.requires_grad:
                return 0.0, 0.0, 0
            first = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)
            gradient = torch.cat([g.reshape(-1) for g in first])
        if not gradient.requires_grad:
            return 0.0, 0.0, 0
        sizes = [leaf.numel() for leaf in leaves]

        def product(v: Tensor) -> Tensor:
            along = torch.autograd.grad(gradient, leaves, v, retain_graph=True, materialize_grads=True)
            return torch.cat([part.reshape(-1) for part in along])

        start = torch.zeros(sum(sizes), dtype=gradient.dtype, device=gradient.device)
        generator = torch.Generator(device=start.device).manual_seed(0)
        ritz = lanczos(product, start, _STEPS, generator)
        return float(ritz.smallest), float(ritz.largest), min(_STEPS, len(start))


def _parameters(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not given:
        raise SettingError("parameters", "must name at least one tensor")
    start = {name: tensor.detach().clone() for name, tensor in given.items()}
    kinds = {(tensor.dtype, tensor.device) for tensor in start.values()}
    if len(kinds) > 1 or not next(iter(kinds))[0].is_floating_point:
        shown = ", ".join(f"{name}: {t.dtype} on {t.device}" for name, t in start.items())
        raise SettingError("parameters", f"must be of one floating-point type and on one device, got {shown}")
    return start


def _check_level(key: str, value: Any) -> None:
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or value.ndim:
        shown = f"one of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"{value!r}"
        raise SettingError(key, f"must return a tensor of shape (), got {shown}; take a mean or a sum")
    if not math.isfinite(float(value)):
        raise SettingError(key, f"is {float(value)} at the start; it must be finite")
