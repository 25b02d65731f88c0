"""Every stochastic solver on the same finite sum."""

import io

import pytest
import torch
from finite_sums import LOWER, UPPER, D, N, Quadratic, normal, zeros
from full_matrix import first_of

from selftune.errors import SettingError
from selftune.hypergradients.oracle import Counts
from selftune.hypergradients.stochastic import (
    Amigo,
    MiniBatchOracle,
    Saba,
    Sampler,
    Soba,
    State,
    StocBiO,
    advance,
    run,
    stochastic_solvers,
)

RATES = {"inner_rate": 0.03, "outer_rate": 0.01}
PROGRESS = {
    "soba": Soba(0.15, 0.1),
    "saba": Saba(0.05, 0.03),
    "amigo": Amigo(0.05, 0.05),
    "stocbio": StocBiO(0.08, 0.1, linear_steps=60),  # a short series is too biased to get far
}
"""Settings with which 400 iterations on batches of 4 halve the gap."""
ALL = sorted(stochastic_solvers)


def solver(name, **settings):
    return stochastic_solvers[name](**{**RATES, **settings})


@pytest.fixture
def problem():
    return Quadratic()


def begin(name, problem, batch_size=4, **settings):
    made, sampler = solver(name, **settings), Sampler(LOWER, UPPER, batch_size)
    return made, made.start(problem.oracle, zeros(N), zeros(D), sampler), sampler


def same(one, other):
    return all(torch.equal(getattr(one, key), getattr(other, key)) for key in ("x", "v", "u"))


@pytest.mark.parametrize("name", first_of(sorted(ALL, key="stocbio".__eq__), always=len(ALL) - 1))  # slow
def test_batches_bring_the_gap_down(name, problem):
    state = run(PROGRESS[name], problem.oracle, zeros(N), zeros(D), iterations=400, batch_size=4)
    assert state.iteration == 400
    assert problem.gap(state.u) < 0.5 * problem.gap(zeros(D))


@pytest.mark.parametrize("name", ALL)
def test_the_seed_decides_the_run(name, problem):
    runs = [
        run(solver(name), problem.oracle, zeros(N), zeros(D), iterations=5, batch_size=4, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("name", ALL)
def test_a_saved_run_goes_on_as_if_never_stopped(name, problem):
    made, state, sampler = begin(name, problem)
    advance(made, problem.oracle, state, sampler, 7)
    file = io.BytesIO()
    torch.save({"state": state.state_dict(), "sampler": sampler.state_dict()}, file)
    advance(made, problem.oracle, state, sampler, 6)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = Sampler(LOWER, UPPER, 4)
    again.load_state_dict(saved["sampler"])
    resumed = advance(made, problem.oracle, State.from_state_dict(saved["state"]), again, 6)
    assert resumed.iteration == state.iteration == 13
    assert same(resumed, state)


@pytest.mark.parametrize("name", ALL)
def test_a_state_dict_is_a_snapshot(name, problem):
    made, state, sampler = begin(name, problem)
    snapshot = state.state_dict()
    copies = {key: snapshot[key].clone() for key in ("x", "v", "u")}
    rows = {key: table["rows"].clone() for key, table in snapshot["tables"].items()}
    advance(made, problem.oracle, state, sampler, 3)
    assert all(torch.equal(snapshot[key], copy) for key, copy in copies.items())
    assert all(torch.equal(snapshot["tables"][key]["rows"], copy) for key, copy in rows.items())
    assert snapshot["iteration"] == 0


@pytest.mark.parametrize("name", ALL)
def test_the_start_is_left_alone_and_no_graph_grows(name, problem):
    x, u = normal(0, N), normal(1, D)
    kept = x.clone(), u.clone()
    state = run(solver(name), problem.oracle, x, u, iterations=3, batch_size=4)
    assert torch.equal(x, kept[0])
    assert torch.equal(u, kept[1])
    assert not any(tensor.requires_grad for tensor in (state.x, state.v, state.u))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("soba", Counts(1, 1, 1, 1)),
        ("saba", Counts(1, 1, 1, 1)),
        ("amigo", Counts(3, 4, 1, 1)),
        ("stocbio", Counts(3, 4, 1, 1)),
    ],
)
def test_work_of_one_iteration(name, wanted, problem):
    steps = {"inner_steps": 3, "linear_steps": 4} if name in ("amigo", "stocbio") else {}
    made, state, sampler = begin(name, problem, **steps)
    before = problem.oracle.counts.copy()
    advance(made, problem.oracle, state, sampler, 1)
    assert problem.oracle.counts - before == wanted


@pytest.mark.parametrize("name", [name for name in ALL if name != "stocbio"])
def test_the_solution_is_a_fixed_point_on_all_examples(name, problem):
    x, u, v = problem.optimum()
    made, sampler = solver(name), Sampler(LOWER, UPPER, LOWER)
    state = made.start(problem.oracle, x, u, sampler, v)
    advance(made, problem.oracle, state, sampler, 3)
    for found, wanted in ((state.x, x), (state.v, v), (state.u, u)):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ALL)
def test_nothing_waits_for_the_device(name):
    # tensors on the meta device have no values: whoever asks for one raises
    data = torch.ones(6, 4, device="meta")
    oracle = MiniBatchOracle(
        lambda x, u, index: (data[index] @ x).square().mean() + (u.exp() * x.square()).sum(),
        lambda x, u, index: (data[index] @ x).square().mean(),
        6,
        6,
    )
    x, u = torch.zeros(4, device="meta"), torch.zeros(4, device="meta")
    state = run(solver(name), oracle, x, u, iterations=2, batch_size=2)
    assert state.x.device.type == state.u.device.type == "meta"


@pytest.mark.parametrize("name", ALL)
def test_steps_shrink_with_the_decay(name):
    made = solver(name, decay=0.5)
    assert made.rates(0) == (0.03, 0.01)
    assert made.rates(3) == pytest.approx((0.015, 0.005))
    assert solver(name, decay=0.0).rates(99) == (0.03, 0.01)
    assert solver(name).rates(3)[0] == pytest.approx(0.015 if name == "soba" else 0.03)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"inner_rate": 0.0}, "inner_rate: must be a positive number, got 0.0"),
        ({"outer_rate": float("inf")}, "outer_rate: must be a positive number, got inf"),
        ({"decay": -0.1}, r"decay: must be in \[0, 1\], got -0.1"),
    ],
)
def test_settings_are_checked(name, settings, sentence):
    with pytest.raises(SettingError, match=sentence):
        solver(name, **settings)


@pytest.mark.parametrize("name", ALL)
def test_the_number_of_batches_is_checked(name, problem):
    made, state, sampler = begin(name, problem)
    lower, upper = sampler.draw(made.lower_draws + 1)
    with pytest.raises(SettingError, match=f"lower: must have {made.lower_draws} batches"):
        made.step(problem.oracle, state, lower, upper)
    assert state.iteration == 0
