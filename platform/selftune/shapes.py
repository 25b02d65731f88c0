"""Shapes in signatures: jaxtyping's annotations, or plain types where jaxtyping is not installed.

The core must run on a machine that has only torch and numpy. Annotations are never evaluated there
(every module has ``from __future__ import annotations``), so the names only have to exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, UInt8
    except ModuleNotFoundError:

        class _Unchecked:
            def __class_getitem__(cls, item: Any) -> Any:
                return Any

        Bool = Float = Int = UInt8 = _Unchecked

__all__ = ["Bool", "Float", "Int", "Tensor", "UInt8"]
