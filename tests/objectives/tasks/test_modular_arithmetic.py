import pytest
import torch
from selftune.objectives.tasks.modular_arithmetic import modular_arithmetic


@pytest.mark.parametrize(
    ("operation", "rule"), [("add", "__add__"), ("subtract", "__sub__"), ("multiply", "__mul__")]
)
def test_is_the_whole_table(operation, rule):
    pairs, labels = modular_arithmetic(modulus=7, operation=operation)
    assert pairs.tolist() == [[a, b] for a in range(7) for b in range(7)]
    assert labels.tolist() == [getattr(a, rule)(b) % 7 for a in range(7) for b in range(7)]
    assert pairs.dtype == labels.dtype == torch.int64


def test_addition_is_symmetric_and_balanced():
    labels = modular_arithmetic(modulus=11)[1]
    table = labels.reshape(11, 11)
    assert torch.equal(table, table.T)
    assert labels.bincount().tolist() == [11] * 11


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="divide"):
        modular_arithmetic(modulus=7, operation="divide")
    with pytest.raises(ValueError, match="modulus"):
        modular_arithmetic(modulus=0)
