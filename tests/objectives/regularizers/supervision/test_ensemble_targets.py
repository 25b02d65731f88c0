import pytest
import torch
import torch.nn.functional as F
from selftune.objectives.functional import ensemble_targets

pytestmark = pytest.mark.usefixtures("double")


SPACES = ["logits", "probabilities"]


@pytest.mark.parametrize("space", SPACES)
def test_one_member_is_softmax_and_order_does_not_matter(space):
    logits = torch.randn(3, 4, 5, requires_grad=True)
    targets = ensemble_targets(logits, space)
    torch.testing.assert_close(ensemble_targets(logits[:1], space), logits[0].softmax(dim=1).detach())
    torch.testing.assert_close(ensemble_targets(logits.flip(0), space), targets)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
    assert not targets.requires_grad


def test_the_average_probability_is_at_least_as_likely_as_the_members():
    logits, labels = torch.randn(3, 4, 5), torch.tensor([0, 1, 2, 3])
    average = -ensemble_targets(logits, "probabilities")[range(4), labels].log()
    members = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits]).mean(dim=0)
    assert (average <= members).all()


def test_the_average_logit_is_the_normalised_geometric_mean():
    logits = torch.randn(3, 4, 5)
    geometric = logits.softmax(dim=2).log().mean(dim=0).exp()
    torch.testing.assert_close(ensemble_targets(logits), geometric / geometric.sum(dim=1, keepdim=True))


def test_other_spaces_are_refused():
    with pytest.raises(ValueError, match="'logits' or 'probabilities'"):
        ensemble_targets(torch.zeros(1, 1, 2), "weights")
