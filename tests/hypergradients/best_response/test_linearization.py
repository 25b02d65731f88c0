"""Single operations in linearised passes against autograd, and what must never happen silently."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selftune.hypergradients.best_response import convert
from selftune.hypergradients.best_response.dual import dual, parts, total
from selftune.hypergradients.best_response.linearization import linearization

OTHER = torch.linspace(0.5, 2, 4 * 6, dtype=torch.float64).view(4, 6)
MASK = OTHER > 1
IMAGE = (2, 4, 6, 6)
FILTERS = OTHER[:, :2, None].expand(-1, -1, 3)
SIGNAL = (2, 4, 7)
MATRIX = (4, 6)

OPERATIONS = {
    "add": (MATRIX, lambda x: x + OTHER + 1),
    "add that broadcasts the pair": (MATRIX, lambda x: x[:, :1] + OTHER),
    "add with alpha": (MATRIX, lambda x: torch.add(OTHER, x, alpha=3) + torch.add(x, x.sin(), alpha=-2)),
    "sub": (MATRIX, lambda x: (OTHER - x) - (1 - x) * 3),
    "mul": (MATRIX, lambda x: x * x * OTHER * 2),
    "div": (MATRIX, lambda x: x / OTHER + OTHER / (x + 9) + x / (x + 9) + 1 / (x + 9)),
    "products with constants": (
        MATRIX,
        lambda x: x[:, :1] * OTHER + 3 * x + torch.mul(OTHER[:1], x) + OTHER * x[:1] / 2 + torch.div(x[:1], OTHER),
    ),
    "division that rounds": (MATRIX, lambda x: torch.div(x, 0.3, rounding_mode="floor") + x),
    "matmul": (MATRIX, lambda x: (x @ OTHER.T) @ x + OTHER @ (x.mT @ x)),
    "relu": (MATRIX, torch.relu),
    "leaky_relu": (MATRIX, lambda x: F.leaky_relu(x, 0.2)),
    "gelu": (MATRIX, lambda x: F.gelu(x) + F.gelu(x, approximate="tanh")),
    "tanh": (MATRIX, torch.tanh),
    "sigmoid": (MATRIX, torch.sigmoid),
    "silu": (MATRIX, F.silu),
    "elu": (MATRIX, lambda x: F.elu(x, 0.7)),
    "softplus": (MATRIX, lambda x: F.softplus(x, 2.0)),
    "softmax": (MATRIX, lambda x: x.softmax(-1)),
    "log_softmax": (MATRIX, lambda x: F.log_softmax(x, 0)),
    "mish": (MATRIX, F.mish),
    "glu": (MATRIX, lambda x: F.glu(x, 1)),
    "logsumexp": (MATRIX, lambda x: x.logsumexp(0)),
    "softmax in another type": (MATRIX, lambda x: F.softmax(x, 1, dtype=torch.float64)),
    "layer_norm": (MATRIX, lambda x: F.layer_norm(x, (6,), OTHER[0], OTHER[1])),
    "layer_norm of two axes": (IMAGE, lambda x: F.layer_norm(x, (6, 6))),
    "batch_norm": (IMAGE, lambda x: F.batch_norm(x, None, None, OTHER[0, :4], OTHER[1, :4], True)),
    "batch_norm in evaluation": (IMAGE, lambda x: F.batch_norm(x, OTHER[0, :4], OTHER[1, :4], OTHER[2, :4])),
    "max_pool2d": (IMAGE, lambda x: F.max_pool2d(x, 3, stride=2, padding=1)),
    "max_pool2d with indices": (IMAGE, lambda x: F.max_pool2d(x, 2, return_indices=True)[0]),
    "max_pool1d": (SIGNAL, lambda x: F.max_pool1d(x, 3, 1, dilation=2)),
    "avg_pool": (IMAGE, lambda x: F.avg_pool2d(x, 2) + F.adaptive_avg_pool2d(x, 3)),
    "pad": (SIGNAL, lambda x: F.pad(x, (1, 2), value=5.0)[..., 1:] + F.pad(x, (1, 1), mode="reflect")),
    "interpolate": (IMAGE, lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    "conv_transpose": (SIGNAL, lambda x: F.conv_transpose1d(x, FILTERS, OTHER[0, :2])),
    "views": (IMAGE, lambda x: x.permute(0, 2, 3, 1).reshape(2, 36, 4).unflatten(1, (6, 6)).mT[..., 1:]),
    "joins": (MATRIX, lambda x: torch.cat([x, OTHER, torch.stack([x, 2 * x]).sum(0)], 1)),
    "parts": (MATRIX, lambda x: sum(part.sum() for part in (*x.chunk(2), *x.split([2, 4], 1), *x))),
    "where": (MATRIX, lambda x: torch.where(x > 0, x * 2, OTHER) + x.where(MASK, 1.0) + x.masked_fill(MASK, 3.0)),
    "in place": (MATRIX, lambda x: (x * 1).mul_(x).add_(OTHER).relu_()),
    "in place through a view": (MATRIX, lambda x: write_through(x * 1)),
    "write by mask": (MATRIX, lambda x: write(x * 1, MASK, 2.0)),
    "write by slice": (MATRIX, lambda x: write(x * 1, (slice(None), 2), x[:, 3] * 2)),
    "iteration": (MATRIX, lambda x: torch.stack([row * 2 for row in x])),
    "powers and reductions": (MATRIX, lambda x: x.pow(2).mean(0) + x.std(0) + x.amax(0) + x.logsumexp(0)),
    "einsum": (MATRIX, lambda x: torch.einsum("ij,kj->ik", x, x * OTHER)),
    "grid_sample": (IMAGE, lambda x: F.grid_sample(x, OTHER.view(2, 3, 2, 2) - 1, align_corners=True)),
    "grid_sample by both": (IMAGE, lambda x: F.grid_sample(x, x[:, :2].movedim(1, -1) / 9, align_corners=True)),
    "attention": (IMAGE, lambda x: F.scaled_dot_product_attention(x, x * 2, x.flip(-1))),
}  # fmt: skip


def write(target, index, source):
    target[index] = source
    return target


def write_through(x):
    x.view(-1)[3:9].mul_(2).sub_(x[0, 0])
    x[1].zero_()
    return x


@pytest.mark.parametrize("name", OPERATIONS)
def test_linearization_and_autograd_agree(name):
    shape, operation = OPERATIONS[name]
    torch.manual_seed(0)
    value, tangent = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    point = value.clone().requires_grad_()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = operation(point)
    cotangent = torch.zeros_like(expected, requires_grad=True)
    (pulled,) = torch.autograd.grad(expected, point, cotangent, create_graph=True)
    (expected_tangent,) = torch.autograd.grad(pulled, cotangent, tangent, retain_graph=True)

    source = tangent.clone().requires_grad_()
    with linearization({}):
        result, result_tangent = parts(operation(dual(value.clone(), source * 1)))
    torch.testing.assert_close(result, expected.detach())
    torch.testing.assert_close(result_tangent.detach(), expected_tangent)
    weights = torch.randn_like(expected)
    (actual,) = torch.autograd.grad(result_tangent, source, weights)
    (wanted,) = torch.autograd.grad(expected, point, weights)
    torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("drop", [F.dropout, F.dropout1d, F.alpha_dropout])
def test_value_and_tangent_share_the_mask_of_the_plain_network(drop):
    x, tangent = torch.ones(4, 6, 8), torch.full((4, 6, 8), 2.0)
    torch.manual_seed(3)
    plain = drop(x, 0.4, True)
    torch.manual_seed(3)
    with linearization({}):
        value, moved = parts(drop(dual(x, tangent), 0.4, True))
    assert torch.equal(value, plain)
    kept = plain == plain.max()
    assert torch.equal(moved != 0, kept)
    assert moved[kept].unique().numel() == 1


def test_reads_of_a_value_have_no_tangent():
    with linearization({}):
        x = dual(torch.tensor([[1.0, -2.0]]), torch.ones(1, 2))
        assert x.shape == (1, 2)
        assert x[0, 1].item() == -2.0
        assert bool(x.sum() < 0)
        for plain in (x > 0, x.argmax(), x.detach(), x.data, torch.zeros_like(x), x.new_ones(3)):
            assert parts(plain)[1] is None


def test_no_grad_and_detach_make_constants_in_value_and_gradient():
    source = torch.ones(2, 3, requires_grad=True)
    with linearization({}):
        x = dual(torch.rand(2, 3), source * 1)
        with torch.no_grad():
            constant = x * 2
            with torch.enable_grad():
                again = x * 2
            later = constant + x
        for still in (constant, later, x.detach() * 2, torch.no_grad()(lambda: x * 2)()):
            assert parts(still)[1] is None
        assert torch.equal(parts(again)[1], 2 * source)
        assert torch.equal(parts(constant + x)[1], source)


def test_under_a_callers_no_grad_the_networks_own_still_means_constants():
    with torch.no_grad():
        with linearization({}):
            x = dual(torch.rand(2, 3), torch.ones(2, 3))
            with torch.no_grad():
                constant = x * 2
            assert parts(constant)[1] is None
            assert torch.equal(total(x * 3), 3 * parts(x)[0] + 3)
        assert not torch.is_grad_enabled()


class Doubled(torch.autograd.Function):
    """Without jvp."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda x: Doubled.apply(x), "custom torch.autograd.Function"),
        (lambda x: torch.mul(x, 2, out=torch.zeros(2, 3)), "out"),
        (lambda x: x.numpy(), r"numpy\(\) of a linearised value"),
        (lambda x: torch.autograd.grad(x.sum(), x), r"grad\(\) of a linearised value"),
        (lambda x: x.requires_grad_(), r"requires_grad_\(\) of a linearised value"),
        (lambda x: torch.cdist(x, torch.zeros(2, 3)), "cannot be linearised.*perturbed"),
    ],
)
def test_a_tangent_is_never_lost_silently(operation, message):
    with pytest.raises(NotImplementedError, match=message), linearization({}):
        operation(dual(torch.rand(2, 3), torch.rand(2, 3)))


class DoubledWithJvp(Doubled):
    @staticmethod
    def jvp(ctx, tangent):
        return tangent * 2


def test_custom_functions_with_jvp_are_linearised():
    with linearization({}):
        tangent = torch.rand(2, 3)
        assert torch.equal(parts(DoubledWithJvp.apply(dual(torch.rand(2, 3), tangent)))[1], 2 * tangent)


def test_writes_into_plain_tensors_carry_tangents():
    with linearization({}):
        x, plain = dual(torch.rand(2, 3), torch.rand(2, 3)), torch.zeros(4, 3)
        plain[1:3] = x
        plain.add_(1)
        assert torch.equal(parts(plain)[1][1:3], parts(x)[1])
        assert not parts(plain)[1][0].any()


def test_no_grad_write_to_a_linearised_value_is_refused():
    with linearization({}):
        x = dual(torch.rand(2, 3), torch.rand(2, 3))
        with torch.no_grad(), pytest.raises(NotImplementedError, match="under no_grad"):
            x.mul_(2)


def test_fused_recurrent_kernel_is_linearised_by_double_backward():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.GRU(4, 5, batch_first=True))

    class WithoutRule(nn.LSTM):
        def forward(self, x):
            return super().forward(x)

    lstm = WithoutRule(3, 4, batch_first=True)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.lstm, self.gru = nn.Linear(3, 3), lstm, model[1]

        def forward(self, x):
            return self.gru(self.lstm(self.embed(x))[0])[0][:, -1]

    network, inputs, h = Network(), torch.randn(6, 4, 3), torch.randn(6, 2)
    response = convert(
        network, hyperparameters=2, example=inputs, generator=torch.Generator(), without_rule="plain"
    )
    nn.init.normal_(response.gates)
    step = 1e-2
    with torch.no_grad():
        slope = (response.perturbed(step * h, inputs) - response.perturbed(-step * h, inputs)) / (2 * step)
        expected = network(inputs) + slope
    torch.testing.assert_close(response.linearized(h, inputs), expected, rtol=1e-3, atol=1e-3)
    assert response.fallbacks == {"lstm": "double backward"}


def test_pre_hooks_may_mask_the_input_of_any_layer():
    torch.manual_seed(0)
    model, inputs, h = (
        nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)),
        torch.randn(5, 3),
        torch.randn(5, 2),
    )
    response = convert(model, hyperparameters=2, example=inputs, generator=torch.Generator())
    nn.init.normal_(response.gates)
    masks = {0: torch.rand(5, 3), 2: torch.rand(5, 8)}
    for index, mask in masks.items():
        model[index].register_forward_pre_hook(lambda _, args, mask=mask: (args[0] * mask,))
    origin = torch.zeros(5, 2)
    value, slope = torch.autograd.functional.jvp(lambda d: response.perturbed(d, inputs), origin, h)
    torch.testing.assert_close(response.linearized(h, inputs), value + slope)


def test_nested_outputs_are_linearised():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            features = self.body(x)
            return {"features": features, "logits": (self.head(features),), "size": len(x)}

    model, inputs, h = Two(), torch.randn(5, 3), torch.randn(5, 2)
    response = convert(model, hyperparameters=2, example=inputs, generator=torch.Generator())
    outputs = response.linearized(h, inputs)
    assert outputs["size"] == 5
    torch.testing.assert_close(outputs["features"], model(inputs)["features"])
    torch.testing.assert_close(outputs["logits"][0], model(inputs)["logits"][0])
