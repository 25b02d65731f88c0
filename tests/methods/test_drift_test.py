"""The test of a drift: false alarms on simulated noise, power, signs that change, restarts and states."""

import math

import pytest
import torch
from full_matrix import first_of

from selftune.methods.drift_test import BLOCK, DriftTest

LEVEL, STREAMS = 0.05, 1000
HIGHEST = LEVEL + 2.6 * math.sqrt(LEVEL * (1 - LEVEL) / STREAMS)  # of a share at the level, but for one in 200


def stream(steps, correlation=0.0, heavy=False, seed=0):
    """Autoregressive noise without a drift, a row per step, of variance one where it is finite."""
    generator = torch.Generator().manual_seed(seed)
    fresh = torch.randn(steps + 100, STREAMS, generator=generator, dtype=torch.float64)
    if heavy:  # Student's t with two degrees of freedom
        fresh /= (
            torch.randn(2, steps + 100, STREAMS, generator=generator, dtype=torch.float64).square().mean(0).sqrt()
        )
    x, rows = fresh[0], []
    for row in fresh[1:] * math.sqrt(1 - correlation**2):
        x = correlation * x + row
        rows.append(x)
    return torch.stack(rows[99:])


def waves(rows):
    return rows * torch.exp(2 * torch.sin(torch.arange(len(rows)) / 100))[:, None]


def lingering(rows):
    """With a second part that falls off slowly, as planted noise has on digits."""
    return math.sqrt(0.7) * rows + math.sqrt(0.3) * stream(len(rows), 0.95, seed=1)


def first_alarms(rows):
    test = DriftTest(rows.shape[1])
    first = torch.full((rows.shape[1],), math.inf, dtype=torch.float64)
    for step, row in enumerate(rows):
        test.see(row)
        first = torch.minimum(first, torch.where(test.evidence >= 1 / LEVEL, step + 1.0, math.inf))
    return first


NOISE = {
    "independent": lambda steps: stream(steps),
    "correlated": lambda steps: stream(steps, 0.9),
    "heavy tails": lambda steps: stream(steps, heavy=True),
    "correlated, heavy tails": lambda steps: stream(steps, 0.9, heavy=True),
    "changing variance": lambda steps: waves(stream(steps, 0.9)),
    "lingering": lambda steps: lingering(stream(steps, 0.6)),
    "weakly correlated": lambda steps: stream(steps, 0.5),
    "alternating": lambda steps: stream(steps, -0.5),
}


@pytest.mark.parametrize("kind", first_of(list(NOISE), 6))
def test_noise_is_let_go_no_more_often_than_the_level_says(kind):
    alarms = first_alarms(NOISE[kind](2000)).isfinite().double().mean()
    assert alarms <= HIGHEST


def test_noise_that_stays_on_one_side_for_long_is_beyond_what_is_assumed():
    """The limit that the documentation states: correlation of 0.98 from step to step, 0.85 from block to block."""
    assert first_alarms(stream(2000, 0.98)).isfinite().double().mean() > HIGHEST


@pytest.mark.parametrize(("drift", "steps"), [(1.0, 110), (4.0, 80)])
def test_a_drift_is_found(drift, steps):
    assert first_alarms(stream(400) + drift).median() <= steps


def test_a_small_drift_is_found_in_some_times_as_many_steps_as_a_fixed_sample_needs():
    drift = 0.25
    fixed = ((1.96 + 1.28) / drift) ** 2  # finds it with a probability of 0.9 at this level
    assert first_alarms(stream(2000) + drift).sort().values[900] < 8 * fixed


def test_evidence_outlives_a_change_of_sign():
    rows = stream(1200)
    sign = torch.where(torch.arange(1200) < 40, 1.0, -1.0)[:, None]
    assert first_alarms(rows + sign).isfinite().double().mean() > 0.95


def test_scale_does_not_matter():
    rows = stream(300)[:, :50] + 0.5
    torch.testing.assert_close(first_alarms(rows), first_alarms(1024 * rows), atol=0, rtol=0)


def test_what_never_moves_is_never_found():
    assert first_alarms(torch.zeros(500, 3)).isinf().all()


def test_coordinates_do_not_know_of_each_other():
    rows = torch.stack([stream(200)[:, 0], stream(200)[:, 1] + 2.0], dim=1)
    alone = [first_alarms(rows[:, [column]]) for column in range(2)]
    torch.testing.assert_close(first_alarms(rows), torch.cat(alone))


@pytest.mark.parametrize("at", [0, 3, BLOCK, 5 * BLOCK + 1])
def test_a_state_goes_on_bit_for_bit(at):
    rows = stream(120)[:, :4] + 0.3
    whole, parts = DriftTest(4), DriftTest(4)
    for step, row in enumerate(rows):
        if step == at:
            state, parts = parts.state_dict(), DriftTest(4)
            parts.load_state_dict(state)
        whole.see(row)
        parts.see(row)
        assert torch.equal(whole.evidence, parts.evidence)
