"""Whether what regularizers and diagnostics need is offered with the axes and the type that they need."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from selftune.errors import SettingError
from selftune.regularization.quantity import Axes, Quantity, Type, quantities

_OF_ANNOTATIONS: dict[str, Type] = {"Float": "float", "Int": "integer", "Bool": "bool"}
_ANNOTATION = re.compile(r"""(Float|Int|Bool)\[Tensor, (['"])(.*)\2\]""")


def from_signature(function: Callable[..., Any], arguments: Mapping[str, str]) -> dict[str, Quantity]:
    """What a function needs, by the shapes in its signature (``Float[Tensor, "batch classes"]``).

    Arguments without such an annotation are left out.

    Args:
        arguments: names of arguments -> names of the quantities that they receive.

    Raises:
        SettingError: if the function has no such argument.

    >>> def size(outputs: "Float[Tensor, 'batch *rest']", scale: float): ...
    >>> from_signature(size, {"outputs": "logits", "scale": "learning_rate"})["logits"].axes
    ('batch', Ellipsis)
    """
    parameters = inspect.signature(function).parameters
    found = {}
    for argument, name in arguments.items():
        if argument not in parameters:
            raise SettingError("needs", f"{function.__name__} has no argument {argument!r} to receive {name}")
        annotation = parameters[argument].annotation
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        parsed = _ANNOTATION.fullmatch(text.strip("'\""))
        if parsed is not None:
            axes = tuple(
                ... if re.match(r"[#_?]*(\.\.\.|\*)", axis) else axis.lstrip("#_?") for axis in parsed[3].split()
            )
            found[name] = Quantity(name, axes, _OF_ANNOTATIONS[parsed[1]])
    return found


def special_cases(offered: Mapping[str, Quantity]) -> frozenset[str]:
    """Names of quantities that are what is offered under another name, because its axes and type are right.

    >>> photographs = Quantity("inputs", ("batch", "channels", "height", "width"), "float")
    >>> sorted(special_cases({"inputs": photographs}))
    ['images', 'real_inputs']
    """
    return frozenset(
        case.name
        for case in quantities.declared()
        if case.of is not None and case.of in offered and _surely(case, offered[case.of])
    )


def _surely(case: Quantity, offered: Quantity) -> bool:
    """Whether a quantity is a special case beyond doubt: axes or types that nobody said may be others."""
    unsaid = offered.axes is not None and ... in offered.axes and ... not in (case.axes or ())
    unsaid = unsaid or (offered.type == "number" and case.type != "number")
    return case.accepts(offered) and not unsaid


def check_said(who: str, axes: Iterable[str], types: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuses axes and types that would do nothing.

    Args:
        known: names of what they can be said of.
        where: what lists these names.

    Raises:
        SettingError: naming them.
    """
    for word, said in (("axes", axes), ("types", types)):
        beyond = sorted(set(said) - set(known))
        if beyond:
            raise SettingError("", f"{who} gives {word} of {' and '.join(beyond)}, which is not among its {where}")


def as_needed(name: str, axes: Mapping[str, Axes | None], types: Mapping[str, Type]) -> Quantity | None:
    """A quantity in the axes and the type that something needs: those declared, where nothing else is said.

    None where nobody declared it and nothing is said, so that anything will do.

    >>> str(as_needed("targets", {"targets": ("batch", ...)}, {}))
    'targets: (batch, ...) float, what the loss compares outputs with'
    """
    declared = quantities.known(name)
    if declared is None:
        if name not in axes:
            return None
        declared = Quantity(name, axes[name], types.get(name, "number"))
    needed = replace(declared, axes=axes.get(name, declared.axes), type=types.get(name, declared.type))
    fixed = [len(a) for a in (needed.axes, declared.axes) if a is not None and ... not in a]
    if len(fixed) == 2 and fixed[0] == fixed[1]:  # a function may call its axes what it likes
        return replace(needed, axes=declared.axes)
    return needed


def as_offered(name: str, offered: Mapping[str, Quantity]) -> Quantity | None:
    """A quantity in the axes that it has where an objective offers others, which it may follow; None if unknown.

    >>> tokens = Quantity("logits", ("batch", "tokens", "classes"), "float")
    >>> as_offered("features", {"logits": tokens}).axes
    ('batch', 'tokens', 'dim')
    """
    if name in offered:
        return offered[name]
    declared = quantities.known(name)
    if declared is None or declared.like is None or declared.axes is None:
        return declared
    model = as_offered(declared.like, offered)
    if model is None:
        return declared
    if model.axes is None:
        return replace(declared, axes=None, type=model.type)
    return replace(declared, axes=model.axes[:-1] + declared.axes[-1:])


def mistakes(needed: Iterable[Quantity], offered: Mapping[str, Quantity], who: str) -> Iterator[str]:
    """Why what ``who`` offers cannot be what is needed, a clause for each quantity that does not fit."""
    for quantity in needed:
        given = as_offered(quantity.name, offered)
        if given is not None and quantity.of is None:
            clause = quantity.mistake(given, who)
            if clause:
                yield clause
