import pytest
import torch

from selftune.training.moments import forget_moments

RULES = {
    "momentum": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
    "plain": lambda weights: torch.optim.SGD(weights, lr=0.1),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.1),
}


def descended(rule, steps, start, forgets=None):
    weights = {"w": start.clone().requires_grad_(), "scalar": torch.ones((), requires_grad=True)}
    optimizer = RULES[rule](list(weights.values()))
    for step in range(steps):
        optimizer.zero_grad()
        (weights["scalar"] * (weights["w"] ** 2).sum()).backward()
        if forgets is not None and step == steps - 1:
            forget_moments(optimizer, weights, *forgets)
        optimizer.step()
    return {name: weight.detach() for name, weight in weights.items()}


@pytest.mark.parametrize("rule", RULES)
def test_a_reset_optimizer_is_a_new_one(rule):
    before = descended(rule, 3, torch.tensor([1.0, 2.0]))
    weights = {name: tensor.clone().requires_grad_() for name, tensor in before.items()}
    (weights["scalar"] * (weights["w"] ** 2).sum()).backward()
    RULES[rule](list(weights.values())).step()
    after = {name: weight.detach() for name, weight in weights.items()}
    torch.testing.assert_close(descended(rule, 4, torch.tensor([1.0, 2.0]), (None,)), after)


def test_some_entries_forget_and_the_others_do_not():
    chosen = torch.tensor([True, False])
    start = torch.tensor([1.0, 2.0])
    some = descended("momentum", 4, start, ({"w": chosen},))
    everything, nothing = descended("momentum", 4, start, (None,)), descended("momentum", 4, start)
    assert some["w"][0] == everything["w"][0] != nothing["w"][0]
    assert some["w"][1] == nothing["w"][1] != everything["w"][1]
    assert some["scalar"] == nothing["scalar"]


def test_counts_of_steps_go_on():
    weight = torch.ones((), requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    weight.backward()
    optimizer.step()
    forget_moments(optimizer, {"w": weight}, {"w": torch.tensor(True)})
    assert optimizer.state[weight]["step"] == 1
    assert optimizer.state[weight]["exp_avg"] == 0
