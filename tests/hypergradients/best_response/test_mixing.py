"""Factored gates: mixed coordinates of thousands of hyperparameters, and each row's own ones."""

import pytest
import torch
from torch import nn

from selftune.hypergradients.best_response import convert
from selftune.hypergradients.best_response.mixing import Mixing

UNITS = 6


pytestmark = pytest.mark.usefixtures("double")


def network():
    return nn.Sequential(nn.Linear(5, UNITS), nn.Tanh(), nn.Linear(UNITS, 3))


def converted(model, mixing, inputs, rank="auto"):
    response = convert(
        model,
        hyperparameters=mixing.hyperparameters,
        example=inputs,
        rank=rank,
        generator=torch.Generator().manual_seed(0),
        mixing=mixing,
    )
    for parameter in (response.gates, response.own):
        if parameter is not None:
            nn.init.normal_(parameter, std=0.3)
    return response


def own_of_units():
    """Hyperparameter i of the second family belongs to unit i of the first layer."""
    columns = 1 + torch.arange(UNITS)[:, None]
    return {"0.weight": columns, "0.bias": columns}


@pytest.fixture
def inputs():
    return torch.randn(7, 5)


def test_without_mixing_and_own_ones_they_are_full_gates(inputs):
    plain, factored = network(), network()
    factored.load_state_dict(plain.state_dict())
    full = convert(plain, hyperparameters=3, example=inputs, generator=torch.Generator().manual_seed(0))
    same = converted(factored, Mixing((1, 2)), inputs)
    assert same.own is None
    with torch.no_grad():
        full.gates.copy_(same.gates)
    h = torch.randn(7, 3)
    assert torch.equal(full.linearized(h, inputs), same.linearized(h, inputs))
    gradients = {name: torch.randn_like(tensor) for name, tensor in full.elementary.items()}
    assert torch.equal(full.contract(gradients), same.contract(gradients))


@pytest.mark.parametrize("rank", ["auto", 1, 2])
def test_passes_weights_and_hypergradients_agree(inputs, rank):
    """All of them are W(h): of each example's own h, of one h, and its derivative."""
    model = network()
    response = converted(model, Mixing((1, UNITS), 2, separate=2, own=own_of_units()), inputs, rank)
    h = torch.randn(7, 1 + UNITS)
    outputs = response.perturbed(h, inputs)
    for row, (own, one) in enumerate(zip(h, inputs, strict=True)):
        weights = response.weights(own)
        torch.testing.assert_close(torch.func.functional_call(model, weights, one[None])[0], outputs[row])

    def of(point):
        return torch.func.functional_call(model, response.weights(point), inputs).square().sum()

    (exact,) = torch.autograd.grad(of(origin := torch.zeros(1 + UNITS, requires_grad=True)), origin)
    loss = model(inputs).square().sum()
    names = list(response.elementary)
    gradients = torch.autograd.grad(loss, [response.elementary[name] for name in names])
    found = response.contract(dict(zip(names, gradients, strict=True)))
    torch.testing.assert_close(found, exact)
    assert (found != 0).all()
    small = 1e-6 * h
    linear = response.linearized(small, inputs) - model(inputs)
    torch.testing.assert_close(linear, response.perturbed(small, inputs) - model(inputs), rtol=1e-4, atol=1e-10)


def test_a_family_that_is_not_larger_than_its_coordinates_is_not_mixed():
    mixing = Mixing((2, 1, 5), coordinates=2, separate=2)
    assert mixing.of_columns[:3].tolist() == [0, 1, 2]
    h = torch.randn(4, 8)
    z = mixing.mixed(h)
    torch.testing.assert_close(z[:, :3], h[:, :3])
    dealt = mixing.of_columns == 4
    torch.testing.assert_close(z[:, 4], (h * mixing.factors)[:, dealt].sum(1))
    root = dealt.sum().double().rsqrt()
    torch.testing.assert_close(mixing.factors[dealt].abs(), root.expand(int(dealt.sum())))
    g = torch.randn(5)
    torch.testing.assert_close(mixing.unmixed(g) @ h[0], g @ z[0])


def test_five_thousand_hyperparameters_need_no_more_than_a_few_entries_per_row():
    units, model = 500, nn.Sequential(nn.Linear(20, 500), nn.ReLU(), nn.Linear(500, 10))
    own = {"0.weight": torch.arange(units)[:, None]}
    mixing = Mixing((5000,), coordinates=16, own=own)
    response = converted(model, mixing, torch.randn(4, 20))
    rows = sum(parameter.shape[0] for parameter in model.parameters())
    weights = sum(parameter.numel() for parameter in model.parameters())
    elements = sum(parameter.numel() for parameter in response.parameters())
    assert elements <= 2 * weights + 2 * rows * (mixing.width + 1)
    assert elements < rows * 5000 / 50


def test_gates_find_the_response_of_a_quadratic():
    """|A W x - t|² with a decay per row of W: how W moves is known, and rows are coupled by A."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    examples, inputs, units = 40, 3, 8
    x, t, a = normal(examples, inputs), normal(examples, 4), normal(4, units) / 3
    u = torch.full((units,), -1.5)
    kron = torch.einsum("ki,kj,np,nq->ipjq", a, a, x, x).reshape(units * inputs, -1) / examples

    def solution(u):
        decay = u.exp().repeat_interleave(inputs).diag()
        right = torch.einsum("nk,ki,np->ip", t, a, x).flatten() / examples
        return torch.linalg.solve(kron + decay, right).view(units, inputs)

    g = normal(units, inputs)
    exact = torch.autograd.functional.jacobian(lambda u: (solution(u) * g).sum(), u)
    model = nn.Sequential(nn.Linear(inputs, units, bias=False), nn.Linear(units, 4, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(solution(u))
        model[1].weight.copy_(a)
    model[1].weight.requires_grad_(False)
    mixing = Mixing((units,), coordinates=2, separate=2, own={"0.weight": torch.arange(units)[:, None]})
    found = {}
    for name, given in {"full": None, "factored": mixing}.items():
        drawn = torch.Generator().manual_seed(0)
        response = convert(model, hyperparameters=units, example=x, rank=1, generator=drawn, mixing=given)
        rule = torch.optim.Adam(response.parameters(), lr=0.02)
        for step in range(600):
            for group in rule.param_groups:
                group["lr"] = 0.02 * (1 - step / 600)
            h = 0.3 * torch.randn(1, units, generator=drawn)
            fit = (response.linearized(h, x) - t).square().sum() / (2 * examples)
            penalty = ((u + h[0]).exp()[:, None] * response.weights(h[0])["0.weight"].square()).sum() / 2
            rule.zero_grad()
            (fit + penalty).backward()
            rule.step()
        found[name] = torch.cosine_similarity(response.contract({"0.weight": g}), exact, dim=0)
        response.remove()
    assert found["full"] > 0.85
    assert found["factored"] > 0.75
