import pytest
import torch
import torch.nn.functional as F
from selftune.objectives.functional import ensemble_targets

from selftune.regularization.regularizer import regularizers

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


def test_members_differ_learn_the_labels_and_teach_the_network(lab):
    trainer = lab.train([regularizers["ensemble_targets"](members=2)], 0)
    first, second = lab.member(trainer)._members
    assert not torch.allclose(first.predict(lab.vectors, {}), second.predict(lab.vectors, {}))
    lab.more(trainer, 200)
    _, step = lab.perturbed_loss(trainer, 200)
    logits = torch.stack([member.predict(step.inputs, {}) for member in (first, second)])
    torch.testing.assert_close(step.targets, ensemble_targets(logits))
    for network in (lambda inputs: first.predict(inputs, {}), trainer.lower.network.eval()):
        assert (network(lab.vectors).argmax(dim=1) == lab.labels).double().mean() > 0.6


def test_members_rest_in_perturbed_steps(lab):
    trainer = lab.train([regularizers["ensemble_targets"](members=1)], 2)
    (member,) = lab.member(trainer)._members
    before = member.predict(lab.vectors, {})
    lab.perturbed_loss(trainer, 2)
    assert torch.equal(member.predict(lab.vectors, {}), before)
