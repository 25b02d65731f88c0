"""What travels unseen: it comes back as it was, small tensors without torch's own pickles."""

import pickle

import pytest
import torch
from ray import cloudpickle
from torch import nn

from selftune.methods.values import Values
from selftune.methods.work_orders import Train
from selftune.schedulers.opaque import Opaque


def there_and_back(content):
    return pickle.loads(cloudpickle.dumps(Opaque(content))).content


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([0.1, float("nan"), -0.0]),
        torch.tensor(2.5, dtype=torch.float64),
        torch.empty(0, 3),
        torch.arange(6).reshape(2, 3).T,
        torch.tensor([True, False]),
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(3, requires_grad=True),
        nn.Parameter(torch.ones(2)),
        torch.ones(100_000),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}",
)
def test_a_tensor_comes_back_to_the_last_bit(tensor):
    back = there_and_back({"it": tensor})["it"]
    assert type(back) is type(tensor)
    assert (back.dtype, back.shape, back.requires_grad) == (tensor.dtype, tensor.shape, tensor.requires_grad)
    assert torch.equal(back.isnan(), tensor.isnan())
    assert torch.equal(back.nan_to_num(), tensor.nan_to_num())
    with torch.no_grad():
        back.mul_(1) if back.dtype is not torch.bool else back.logical_not_()  # it can be written to


def test_an_order_is_small_and_shares_what_it_shared():
    vector = torch.rand(10)
    values = Values(vector, vector, 3)
    order = Train(values=values, steps=5, hypergradient=True, estimator="self_tuning", keep=values)
    back = there_and_back(order)
    assert back.keep is back.values
    assert torch.equal(back.values.unconstrained, vector)
    assert len(cloudpickle.dumps(Opaque(order))) < len(cloudpickle.dumps(order))
