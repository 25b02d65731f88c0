"""What a quantity is: its name, axes and type, and when one that is offered is one that is needed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import EllipsisType
from typing import Literal, get_args

import torch

from selftune.errors import SettingError, suggestion
from selftune.fields import shown
from selftune.registries.registry import Registry, UnknownName
from selftune.regularization.step import Step
from selftune.shapes import Tensor

Axes = tuple[str | EllipsisType, ...]
"""Names of a tensor's axes, in order; ``...`` stands for any number of them, also none."""

Type = Literal["float", "integer", "bool", "complex", "number", "tensors", "parameters", "structure", "mark"]
"""Real numbers, whole ones, truth values, complex numbers; any of these; several tensors; tensors by the names of
parameters; a nested structure of tensors; nothing to read, but something that is true of the training."""


@dataclass(frozen=True)
class Quantity:
    """Something that a training step offers by name.

    Args:
        name: by which objectives provide it, regularizers need it, and a step has it as an attribute.
        axes: of the tensor; ``()`` for one number, None for what is no tensor.
        type: what it consists of.
        meaning: what it says, for people.
        like: another quantity, whose axes but the last it has, wherever that one has other axes than usual.
        of: the quantity that this one is a special case of: it is there where that one has these axes and type.

    Raises:
        SettingError: if axes or type are none.

    >>> str(Quantity("token_logits", ("batch", "tokens", "vocabulary"), "float", "outputs at every position"))
    'token_logits: (batch, tokens, vocabulary) float, outputs at every position'
    """

    name: str
    axes: Axes | None
    type: Type
    meaning: str = ""
    like: str | None = None
    of: str | None = None

    def __post_init__(self) -> None:
        axes, ellipses = self.axes, 0
        if isinstance(axes, tuple) and all(axis is ... or isinstance(axis, str) for axis in axes):
            ellipses = axes.count(...)
        elif axes is not None:
            wanted = 'a tuple of names such as ("batch", ..., "classes"), () for one number, or None'
            raise SettingError("axes", f"of {self.name} must be {wanted}, got {shown(axes)}")
        if ellipses > 1:
            raise SettingError(
                "axes", f"of {self.name} have ... {ellipses} times; once is all that can be told apart"
            )
        if self.type not in get_args(Type):
            known = suggestion(str(self.type), get_args(Type))
            raise SettingError("type", f"of {self.name} cannot be {shown(self.type)}; {known}")

    def __str__(self) -> str:
        form = "" if self.axes is None else f"{shown_axes(self.axes)} {self.type}" if self.axes else self.type
        return f"{self.name}: {', '.join(filter(None, (form, self.meaning)))}"

    @property
    def explained(self) -> str:
        """Its name, with what it means where it says something of another quantity or of the training.

        >>> Quantity("batch_norm", None, "mark", "networks with batch normalisation").explained
        'batch_norm (networks with batch normalisation)'
        """
        if self.of is None and self.type != "mark":
            return self.name
        definite = self.axes is not None and ... not in self.axes
        return f"{self.name} ({self.meaning}{f', {_shape(self)}' if definite else ''})"

    @property
    def form(self) -> str:
        """Name, axes and type in words.

        >>> Quantity("labels", ("batch",), "integer").form
        'labels are of axes (batch,) and type integer'
        """
        return f"{self.name} are {_shape(self)}" + ("" if self.axes is None else f" and type {self.type}")

    def accepts(self, offered: Quantity) -> bool:
        """Whether what is offered can be what is needed: as many axes, and this type.

        Axes are compared by their number, for one may call classes what another one calls outputs.

        >>> needed = Quantity("logits", ("batch", ..., "classes"), "float")
        >>> needed.accepts(Quantity("logits", ("batch", "tokens", "vocabulary"), "float"))
        True
        >>> needed.accepts(Quantity("logits", ("batch",), "float"))
        False
        """
        return _same_number(self.axes, offered.axes) and _same_type(self.type, offered.type)

    def mistake(self, offered: Quantity, who: str) -> str:
        """What is wrong with what ``who`` offers, in the words that follow a name; empty where nothing is.

        >>> needed = Quantity("labels", ("batch",), "integer")
        >>> needed.mistake(Quantity("labels", ("batch",), "float"), "Diabetes")
        'needs labels of type integer, but Diabetes offers labels of type float'
        """
        if not _same_number(self.axes, offered.axes):
            needed, given = _shape(self), _shape(offered)
        elif not _same_type(self.type, offered.type):
            needed, given = f"of type {self.type}", f"of type {offered.type}"
        else:
            return ""
        return f"needs {self.name} {needed}, but {who} offers {offered.name} {given}"


class Quantities(Registry[Quantity]):
    """Quantities by name; whatever is imported may declare more of them.

    >>> saliency = Quantity("saliency", ("batch", "height", "width"), "float", "how much every pixel matters")
    >>> quantities.declare(saliency)
    >>> quantities["saliency"].type
    'float'
    """

    def declare(self, *new: Quantity) -> None:
        """Adds quantities, so that objectives can provide them and regularizers need them.

        Raises:
            SettingError: if a name cannot be an attribute of a step.
            ValueError: if a name means another quantity already.
        """
        for quantity in new:
            if not quantity.name.isidentifier() or quantity.name in _OF_A_STEP:
                wanted = "an identifier that is no other attribute of a training step"
                raise SettingError("name", f"of a quantity must be {wanted}, got {shown(quantity.name)}")
            if self._entries.get(quantity.name) != quantity:
                self.register(quantity.name, quantity)

    def known(self, name: str) -> Quantity | None:
        """The quantity of this name; None where nobody declared one."""
        try:
            return self[name]
        except UnknownName:
            return None

    def declared(self) -> list[Quantity]:
        """Those declared so far; no package is imported to find more."""
        return list(self._entries.values())


quantities = Quantities(
    "quantity", "selftune.quantities", beside=("selftune.tasks", "selftune.regularizers", "selftune.diagnostics")
)
"""All quantities. Modules declare theirs beside the task, the regularizer or the diagnostic that brings them."""


def observed(name: str, value: object, known: Quantity | None = None) -> Quantity:
    """The quantity that a value is; axes are named after those of ``known``.

    >>> observed("inputs", torch.zeros(8, 3, 32, 32)).axes
    ('batch', 'channels', 'height', 'width')
    >>> observed("costs", torch.zeros(8)).type
    'float'
    """
    meaning = known.meaning if known is not None else ""
    if isinstance(value, bool | int | float):
        return Quantity(name, (), _OF_NUMBERS[type(value)], meaning)
    if not isinstance(value, Tensor):
        return Quantity(name, None, "structure", meaning)
    return Quantity(name, _named(value.ndim, known), _type_of(value), meaning)


def _named(number: int, known: Quantity | None) -> Axes:
    """Names for a number of axes: the known ones, between the first and the last of them where there are more."""
    unnamed = ("batch", *(f"axis{axis}" for axis in range(1, number)))[:number]
    if known is None or known.axes is None or ... in known.axes:
        return _USUAL.get(number, unnamed)
    if len(known.axes) == number:
        return known.axes
    return (*unnamed[:-1], known.axes[-1]) if number > len(known.axes) > 1 else unnamed


def shown_axes(axes: Axes) -> str:
    """Axes as they are written in messages.

    >>> shown_axes(("batch", ...))
    '(batch, ...)'
    """
    names = ", ".join("..." if axis is ... else str(axis) for axis in axes)
    return f"({names},)" if len(axes) == 1 and axes[0] is not ... else f"({names})"


_OF_A_STEP = frozenset(
    {*(field.name for field in fields(Step)), *(name for name in vars(Step) if not name.startswith("_"))}
) - {
    "inputs",
    "labels",
    "targets",
    "index",
    "logits",
    "probs",
    "parameters",
    "learning_rate",
    "classes",
    "examples",
}
"""What a step has that is no quantity."""

_USUAL: dict[int, Axes] = {
    1: ("batch",),
    2: ("batch", "features"),
    4: ("batch", "channels", "height", "width"),
    5: ("batch", "channels", "depth", "height", "width"),
}
"""What the axes of examples are usually, by their number; three may be a sequence or a picture without colours."""

_OF_NUMBERS: dict[type, Type] = {bool: "bool", int: "integer", float: "float"}
_NUMBERS = {"float", "integer", "bool", "complex", "number"}


def _shape(quantity: Quantity) -> str:
    if quantity.axes is None:
        return f"of type {quantity.type}"
    return f"of axes {shown_axes(quantity.axes)}"


def _same_number(needed: Axes | None, offered: Axes | None) -> bool:
    if needed is None or offered is None:
        return needed is offered
    fixed = [len([axis for axis in axes if axis is not ...]) for axes in (needed, offered)]
    if ... in needed:
        return ... in offered or fixed[0] <= fixed[1]
    return fixed[1] <= fixed[0] if ... in offered else fixed[0] == fixed[1]


def _same_type(needed: Type, offered: Type) -> bool:
    if "number" in (needed, offered):
        return needed in _NUMBERS and offered in _NUMBERS
    return needed == offered


def _type_of(tensor: Tensor) -> Type:
    if tensor.dtype.is_floating_point:
        return "float"
    if tensor.dtype.is_complex:
        return "complex"
    return "bool" if tensor.dtype == torch.bool else "integer"
