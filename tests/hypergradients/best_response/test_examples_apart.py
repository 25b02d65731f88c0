"""Positions, which all examples share, respond example by example where they are added to what these have."""

import pytest
import torch
from torch import nn

from selftune.hypergradients.best_response import convert

N, BATCH, LENGTH = 2, 4, 5


class Decoder(nn.Module):
    """Tokens plus positions, in the way of GPT-2 where ``leading``."""

    def __init__(self, leading, use=lambda positions, batch: positions):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(7, 3), nn.Embedding(LENGTH, 3)
        self.head = nn.Linear(3, 2)
        self.leading, self.use = leading, use

    def forward(self, tokens):
        numbers = torch.arange(tokens.shape[1])
        positions = self.positions(numbers.unsqueeze(0) if self.leading else numbers)
        return self.head(torch.tanh(self.tokens(tokens) + self.use(positions, len(tokens))))


def converted(model, **settings):
    tokens = torch.randint(7, (BATCH, LENGTH))
    generator = torch.Generator().manual_seed(0)
    response = convert(model, hyperparameters=N, example=tokens, generator=generator, **settings)
    with torch.no_grad():
        response.gates.normal_()
    return response, tokens


@pytest.mark.parametrize("leading", [True, False])
def test_positions_respond_to_the_hyperparameters_of_each_example(leading):
    response, tokens = converted(Decoder(leading).double())
    h = torch.randn(BATCH, N, dtype=torch.float64)
    assert "positions.weight" in response.elementary
    together = response.perturbed(h, tokens)
    for number in range(BATCH):
        weights = response.weights(h[number])
        alone = torch.func.functional_call(response.model, weights, (tokens[number : number + 1],))
        torch.testing.assert_close(together[number : number + 1], alone)


@pytest.mark.parametrize("leading", [True, False])
def test_their_linearization_is_the_derivative_of_the_perturbed_pass(leading):
    response, tokens = converted(Decoder(leading).double())
    h = torch.randn(BATCH, N, dtype=torch.float64)
    zero = torch.zeros_like(h)
    _, tangent = torch.func.jvp(lambda h: response.perturbed(h, tokens), (zero,), (h,))
    torch.testing.assert_close(response.linearized(h, tokens), response.model(tokens) + tangent)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda positions, batch: positions[0], id="the first row of what all share"),
        pytest.param(lambda positions, batch: positions.mean(0, keepdim=True), id="their mean"),
        pytest.param(lambda positions, batch: positions.repeat(batch, 1, 1), id="repeated: shapes no longer fit"),
    ],
)
def test_positions_that_are_used_in_another_way_stay_plain(use):
    response, tokens = converted(Decoder(True, use), without_rule="plain")
    assert "positions.weight" not in response.elementary
    assert "all examples share its input" in str(response.report)
    assert response.perturbed(torch.randn(BATCH, N), tokens).shape == (BATCH, LENGTH, 2)


def test_looking_leaves_the_network_and_the_draws_of_a_conversion_alone():
    tokens = torch.randint(7, (BATCH, LENGTH))
    model, state = Decoder(True), torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    response = convert(model, hyperparameters=N, example=tokens, generator=torch.Generator().manual_seed(0))
    first = next(iter(response.directions.values())).clone()
    response.remove()
    again = convert(model, hyperparameters=N, example=tokens, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first, next(iter(again.directions.values())))
    assert not again.gates.any()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
