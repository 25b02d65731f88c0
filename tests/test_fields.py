from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
import torch

from selftune.errors import SettingError
from selftune.fields import check_fields, settings_of, shown


@dataclass
class Inner:
    rank: int | Literal["auto"] = "auto"


@dataclass
class Settings:
    steps: int = 1
    rate: float = 0.1
    on: bool = True
    name: Literal["sgd", "adam"] = "sgd"
    box: float | tuple[float, ...] | None = None
    inner: Inner = field(default_factory=Inner)
    anything: Any = None

    def __post_init__(self):
        check_fields(self)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", np.int64(3)),
        ("rate", 1),
        ("rate", np.float32(0.5)),
        ("rate", float("inf")),  # each setting says for itself whether it is in range
        ("box", (1.0, 2)),
        ("box", None),
        ("inner", Inner(3)),
        ("anything", [object()]),
    ],
)
def test_values_of_the_right_type(name, value):
    assert getattr(Settings(**{name: value}), name) is value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 1.0, "must be a whole number, got 1.0"),
        ("steps", True, "must be a whole number, got true"),
        ("steps", float("nan"), "must be a whole number, got nan"),
        ("steps", 2**70, "must be a whole number"),
        ("rate", float("nan"), "must be a number, got nan"),
        ("rate", "0.1", "must be a number, got '0.1'"),
        ("rate", torch.ones(2), "must be a number, got a Tensor of shape (2,)"),
        ("rate", np.ones((3, 1)), "must be a number, got a ndarray of shape (3, 1)"),
        ("on", 1, "must be true or false, got 1"),
        ("name", "adm", "must be 'sgd' or 'adam', got 'adm'; did you mean adam?"),
        ("box", [1.0], "must be a number or a tuple or nothing, got [1.0]"),
        ("box", (1.0, "2"), "must be a number or a tuple or nothing"),
        ("inner", {"rank": 3}, "must be Inner(...), got {'rank': 3}"),
    ],
)
def test_values_of_another_type(name, value, message):
    with pytest.raises(SettingError) as error:
        Settings(**{name: value})
    assert error.value.key == name
    assert error.value.message.startswith(message)


def test_settings_by_name():
    assert settings_of(Settings, {"steps": 3}).steps == 3
    with pytest.raises(SettingError, match=r"step: unknown setting; did you mean steps\?"):
        settings_of(Settings, {"step": 3})


def test_values_are_shown_on_one_short_line():
    text = shown({"a": "\n" * 100})
    assert len(text) <= 60
    assert "\n" not in text
