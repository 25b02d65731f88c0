"""What the family's regularizers add to their functions."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from selftune.objectives.regularizers.representation.bellman_rank import bellman_rank
from selftune.objectives.regularizers.representation.mixed_barlow_twins import mixed_barlow_twins
from selftune.objectives.regularizers.representation.nt_xent import nt_xent
from selftune.objectives.regularizers.representation.vicreg import vicreg_covariance, vicreg_variance

from selftune.regularization.regularizer import regularizers


@pytest.fixture
def step(draw):
    """A training step with embeddings of two views, features of a critic, and labels."""
    generator = torch.Generator().manual_seed(1)
    inputs, second, layer = draw(6, 4), draw(6, 4), draw(4, 3)
    found = SimpleNamespace(
        inputs=inputs,
        second_inputs=second,
        view_a=inputs @ layer,
        view_b=second @ layer,
        features=draw(6, 5),
        next_features=draw(6, 5),
        rewards=9 * draw(6),
        head_weight=draw(1, 5),
        labels=torch.tensor([0, 0, 1, 1, 1, 2]),
        generator=generator,
        rand=lambda *shape: torch.rand(shape, generator=generator),
        permutation=lambda: torch.tensor([5, 4, 3, 2, 1, 0]),
        asks=SimpleNamespace(pass_through=lambda _, x: SimpleNamespace(logits=x @ layer)),
    )
    return found


def penalty(step, name, **values):
    entry = regularizers[name]()
    step.values = {f"{name}.{h.name}": h.tensor.double() for h in entry.hyperparameters}
    step.values |= {f"{name}.{key}": value for key, value in values.items()}
    return entry.penalty(step)


def test_vicreg_takes_the_mean_variance_and_the_sum_of_covariances(step):
    target = torch.tensor(4.0, dtype=torch.float64)
    terms = [vicreg_variance(view, 4.0) for view in (step.view_a, step.view_b)]
    torch.testing.assert_close(penalty(step, "vicreg_variance", target_std=target), sum(terms) / 2)
    terms = [vicreg_covariance(view) for view in (step.view_a, step.view_b)]
    torch.testing.assert_close(penalty(step, "vicreg_covariance"), sum(terms))


def test_nt_xent_is_one_term_per_example(step):
    value = penalty(step, "nt_xent", temperature=torch.tensor(0.3, dtype=torch.float64))
    both = nt_xent(step.view_a, step.view_b, 0.3)
    torch.testing.assert_close(value, (both[:6] + both[6:]) / 2)


def test_bellman_rank_uses_the_norm_of_the_value_head(step):
    norm = step.head_weight.norm() ** 2
    expected = bellman_rank(step.features, step.next_features, step.rewards, norm)
    assert expected.any()
    torch.testing.assert_close(penalty(step, "bellman_rank"), expected)


def test_triplets_are_valid_and_all_of_them_come_up(step):
    margin = torch.tensor(10.0, dtype=torch.float64)  # never met, so that every triplet shows
    units = F.normalize(step.features, dim=1)
    distances = (units[:, None] - units).square().sum(-1)
    possible = [set() for _ in range(6)]
    for a, label in enumerate(step.labels):
        for p in range(6):
            for n in range(6):
                if p != a and step.labels[p] == label and step.labels[n] != label:
                    possible[a].add(round((distances[a, p] - distances[a, n] + 10).item(), 9))
    seen = [set() for _ in range(6)]
    for _ in range(300):
        for a, value in enumerate(penalty(step, "triplet", margin=margin).tolist()):
            seen[a].add(round(value, 9))
    assert seen[:5] == possible[:5]
    assert seen[5] == {0.0}  # the only one of its class has no positive


def test_mixed_views_are_mixed_inputs(step):
    value = penalty(step, "mixed_barlow_twins", alpha=torch.tensor(1.0, dtype=torch.float64))
    # this network is linear: the embeddings of mixed inputs are the mixed embeddings, for the mix that was drawn
    again = []
    for mix in torch.linspace(0.001, 0.999, 999, dtype=torch.float64):
        mixed = mix * step.view_a + (1 - mix) * step.view_b[step.permutation()]
        again.append(mixed_barlow_twins(mixed, step.view_a, step.view_b, mix, step.permutation()))
    assert (torch.stack(again) - value).abs().min() < 1e-2 * value
