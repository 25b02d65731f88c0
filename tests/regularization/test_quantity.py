"""Quantities: what they are, and where they are declared."""

import pytest
import torch

from selftune.errors import SettingError
from selftune.regularization.quantity import Quantity, observed
from selftune.regularization.step_quantities import quantities

WORD = Quantity("word", ("batch", "letters"), "integer", "letters of a word")


@pytest.fixture(autouse=True)
def _no_traces(monkeypatch):
    monkeypatch.setattr(quantities, "_entries", dict(quantities._entries))


def test_a_name_means_one_quantity():
    quantities.declare(WORD)
    quantities.declare(WORD)  # a module that is imported again
    assert quantities["word"] is WORD
    with pytest.raises(ValueError, match="two entries register the quantity name 'word'"):
        quantities.declare(Quantity("word", ("batch",), "integer", "number of a word"))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("word", "batch letters", "integer"), "axes: of word must be a tuple of names such as"),
        (("word", ("batch", 3), "integer"), "axes: of word must be a tuple of names such as"),
        (("word", (..., "letters", ...), "integer"), r"axes: of word have \.\.\. 2 times; once is all"),
        (("word", ("batch",), "int"), "type: of word cannot be 'int'; did you mean integer"),
    ],
)
def test_what_is_no_quantity_is_refused(given, sentence):
    with pytest.raises(SettingError, match=sentence):
        Quantity(*given)


@pytest.mark.parametrize("name", ["two words", "generator", "rand"])
def test_a_name_has_to_be_free_on_a_step(name):
    with pytest.raises(SettingError, match="name: of a quantity must be an identifier that is no other attribute"):
        quantities.declare(Quantity(name, (), "float"))


def test_quantities_of_the_catalogue_are_found_without_asking_for_a_regularizer():
    assert quantities["token_logits"].axes == ("batch", "tokens", "vocabulary")
    assert quantities.known("token_logit") is None
    assert set(quantities.names()) >= {"inputs", "neuron_weights", "teacher_logits", "view_a"}


@pytest.mark.parametrize(
    ("needed", "offered", "fits"),
    [
        (("batch",), ("batch",), True),
        (("batch", "classes"), ("batch", "outputs"), True),
        (("batch", "classes"), ("batch", "tokens", "classes"), False),
        (("batch", ...), ("batch",), True),
        (("batch", ..., "classes"), ("batch",), False),
        (("batch", ..., "classes"), ("batch", "height", "width", "classes"), True),
        ((), (), True),
        (("batch",), ("batch", ...), True),  # nobody knows
        (("batch",), ("batch", ..., "tokens"), False),
        (("batch",), None, False),
        (None, None, True),
    ],
)
def test_axes_are_compared_by_their_number(needed, offered, fits):
    assert Quantity("x", needed, "float").accepts(Quantity("x", offered, "float")) is fits


@pytest.mark.parametrize(
    ("needed", "offered", "fits"),
    [
        ("float", "float", True),
        ("float", "integer", False),
        ("number", "bool", True),
        ("float", "number", True),  # nobody knows
        ("number", "parameters", False),
        ("mark", "mark", True),
    ],
)
def test_types_are_the_same_or_any_number(needed, offered, fits):
    assert Quantity("x", None, needed).accepts(Quantity("x", None, offered)) is fits


def test_what_is_observed_has_the_names_of_the_quantity():
    assert observed("word", torch.zeros(3, 4).int(), WORD) == WORD
    assert observed("word", torch.zeros(3, 4, 5), WORD).axes == ("batch", "axis1", "letters")
    assert observed("word", torch.zeros(3), WORD).axes == ("batch",)
    assert observed("word", torch.tensor(3.0), WORD).axes == ()
    assert observed("word", torch.zeros(3) > 0).type == "bool"
    assert observed("word", torch.zeros(3, dtype=torch.complex64)).type == "complex"
    assert observed("word", 3) == Quantity("word", (), "integer")
    assert observed("word", {"letters": torch.zeros(3)}).axes is None
