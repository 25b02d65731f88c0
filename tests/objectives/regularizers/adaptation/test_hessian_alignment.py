import pytest
import torch
import torch.nn.functional as F
from rounding import squared_rounding
from selftune.objectives.regularizers.adaptation.hessian_alignment import (
    hessian_diagonal_alignment,
    hessian_gradient_alignment,
)
from selftune.objectives.regularizers.adaptation.inter_environment_gradient_alignment import (
    inter_environment_gradient_alignment,
)

DOMAINS = torch.tensor([4, 1, 4, 9, 1, 4, 9])
TARGETS = torch.tensor([0, 1, 2, 1, 0, 0, 2])
DIM, CLASSES, PARAMETERS = 2, 3, 9


@pytest.fixture
def head(draw):
    return draw(7, DIM), draw(CLASSES, DIM), draw(CLASSES)


def risk(features, vector, domain=None):
    """Mean loss of a domain, or the mean over domains, as a function of the head's parameters in one vector."""
    if domain is None:
        return sum(risk(features, vector, d) for d in (1, 4, 9)) / 3
    weight, bias = vector[: CLASSES * DIM].reshape(CLASSES, DIM), vector[CLASSES * DIM :]
    rows = domain == DOMAINS
    return F.cross_entropy(F.linear(features[rows], weight, bias), TARGETS[rows])


def derivatives(features, vector, domain=None):
    """Gradient and Hessian, with their graph."""
    (gradient,) = torch.autograd.grad(risk(features, vector, domain), vector, create_graph=True)
    rows = [torch.autograd.grad(each, vector, create_graph=True)[0] for each in gradient]
    return gradient, torch.stack(rows)


def expected_terms(features, weight, bias, measure):
    vector = torch.cat([weight.flatten(), bias])
    whole = derivatives(features, vector)
    terms = [], []
    for domain in (1, 4, 9):
        gradient, hessian = derivatives(features, vector, domain)
        terms[0].append((measure(gradient, hessian) - measure(*whole).detach()).square().sum())
        terms[1].append((gradient - whole[0].detach()).square().sum())
    return tuple(torch.stack(each).mean() for each in terms)


def compare(actual, expected, inputs):
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
        gradients = (torch.autograd.grad(each, inputs, retain_graph=True) for each in (ours, theirs))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)


class TestGradient:
    def test_values_and_gradients_match_autograd(self, head):
        inputs = [each.requires_grad_() for each in head]
        expected = expected_terms(*inputs, lambda gradient, hessian: hessian @ gradient)
        compare(hessian_gradient_alignment(*inputs, TARGETS, DOMAINS), expected, inputs)

    def test_gradient_term_is_inter_environment_gradient_alignment(self, head):
        features, weight, bias = head
        vector = torch.cat([weight.flatten(), bias]).requires_grad_()
        gradients = torch.stack([torch.autograd.grad(risk(features, vector, d), vector)[0] for d in (1, 4, 9)])
        term = hessian_gradient_alignment(*head, TARGETS, DOMAINS)[1]
        torch.testing.assert_close(term, inter_environment_gradient_alignment(gradients))

    def test_products_match_finite_differences(self, head):
        features, weight, bias = head
        vector = torch.cat([weight.flatten(), bias]).requires_grad_()

        def gradient(vector, domain=None):
            return torch.autograd.grad(risk(features, vector, domain), vector)[0]

        def product(domain=None, h=1e-5):
            move = h * gradient(vector, domain)
            return (gradient(vector + move, domain) - gradient(vector - move, domain)) / (2 * h)

        expected = sum((product(d) - product()).square().sum() for d in (1, 4, 9)) / 3
        term = hessian_gradient_alignment(*head, TARGETS, DOMAINS)[0]
        torch.testing.assert_close(term, expected, rtol=1e-6, atol=0)

    def test_zero_features_leave_the_bias(self, head):
        _, weight, bias = head
        value = hessian_gradient_alignment(torch.zeros(7, DIM).double(), weight, bias, TARGETS, DOMAINS)
        alone = hessian_gradient_alignment(torch.zeros(7, 1).double(), weight[:, :1], bias, TARGETS, DOMAINS)
        torch.testing.assert_close(value, alone)
        probabilities = torch.stack(
            [F.one_hot(TARGETS[d == DOMAINS], CLASSES).double().mean(0) for d in (1, 4, 9)]
        )
        torch.testing.assert_close(value[1], probabilities.var(0, unbiased=False).sum())


class TestDiagonal:
    def test_values_and_gradients_match_autograd(self, head, draw):
        probes = draw(5, PARAMETERS).sign()
        inputs = [each.requires_grad_() for each in head]

        def estimate(gradient, hessian):
            return (probes * (probes @ hessian)).mean(0)

        actual = hessian_diagonal_alignment(*inputs, TARGETS, DOMAINS, probes)
        compare(actual, expected_terms(*inputs, estimate), inputs)

    def test_all_signs_give_the_exact_diagonal(self, head):
        probes = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * PARAMETERS)
        inputs = [each.requires_grad_() for each in head]
        expected = expected_terms(*inputs, lambda gradient, hessian: hessian.diagonal())
        torch.testing.assert_close(hessian_diagonal_alignment(*inputs, TARGETS, DOMAINS, probes), expected)

    def test_stopping_the_gradient_of_the_mean_changes_nothing(self, head, draw):
        probes = draw(4, PARAMETERS).sign()
        inputs = [each.requires_grad_() for each in head]
        vector = torch.cat([inputs[1].flatten(), inputs[2]])
        hessians = torch.stack([derivatives(inputs[0], vector, d)[1] for d in (1, 4, 9)])
        estimates = (probes[:, None] * torch.einsum("kp,epq->keq", probes, hessians)).mean(0)
        whole = inter_environment_gradient_alignment(estimates)
        term = hessian_diagonal_alignment(*inputs, TARGETS, DOMAINS, probes)[0]
        compare([term], [whole], inputs)

    def test_one_probe_separates_what_the_hessian_does_not_couple(self):
        # inputs of both signs do not couple the weight with the bias, but a softmax always couples its classes:
        # opposite probes of the two classes give twice the diagonal, whatever those of the bias
        features = torch.tensor([[1.0], [-1.0], [2.0], [-2.0]]).double()
        zeros, domains = torch.zeros(2).double(), torch.tensor([0, 0, 1, 1])
        for probe in ([1.0, -1.0, 1.0, -1.0], [1.0, -1.0, -1.0, 1.0]):
            probes = torch.tensor([probe]).double()
            term, _ = hessian_diagonal_alignment(features, zeros[:, None], zeros, domains, domains, probes)
            assert term.item() == pytest.approx(2 * (0.5 * (4 - 1) / 2) ** 2)


def test_identical_domains_cost_nothing(head, draw):
    features, weight, bias = head
    twice = torch.cat([features, features]), weight, bias, torch.cat([TARGETS, TARGETS])
    domains = torch.tensor([0, 1]).repeat_interleave(7)
    probes = draw(3, PARAMETERS).sign()
    both = *hessian_gradient_alignment(*twice, domains), *hessian_diagonal_alignment(*twice, domains, probes)
    assert max(both) < squared_rounding(features.abs().max() ** 2, terms=PARAMETERS)
