import torch
from selftune.objectives.regularizers.structure.nuclear_norm import NuclearNorm, nuclear_norm


def test_value_and_bounds(randn):
    matrix = randn(5, 3)
    value = nuclear_norm(matrix)
    torch.testing.assert_close(value, torch.linalg.svdvals(matrix).sum())
    assert matrix.norm() <= value <= 3**0.5 * matrix.norm()
    torch.testing.assert_close(nuclear_norm(torch.tensor([1.0, -2.0, 0.0]).diag()).item(), 3.0)


def test_kernels_are_seen_as_output_against_all_else(randn):
    kernel = randn(4, 3, 2, 2)
    torch.testing.assert_close(nuclear_norm(kernel), nuclear_norm(kernel.reshape(4, 12)))


def test_is_orthogonally_invariant(randn, rotation):
    matrix = randn(5, 3)
    torch.testing.assert_close(nuclear_norm(rotation(5) @ matrix @ rotation(3)), nuclear_norm(matrix))


def test_subgradient_has_spectral_norm_one_and_attains_the_norm(randn):
    low_rank = randn(5, 2) @ randn(2, 4)
    for matrix in (randn(5, 4), low_rank, torch.eye(4, dtype=torch.float64)):
        matrix.requires_grad_()
        value = nuclear_norm(matrix)
        (subgradient,) = torch.autograd.grad(value, matrix)
        torch.testing.assert_close(torch.linalg.matrix_norm(subgradient, 2).item(), 1.0)
        torch.testing.assert_close((subgradient * matrix).sum(), value)
        assert torch.linalg.matrix_rank(subgradient) == torch.linalg.matrix_rank(matrix)


def test_gradient_with_mask(randn):
    matrix, mask = randn(4, 3).requires_grad_(), randn(4, 3) > -0.5
    torch.testing.assert_close(nuclear_norm(matrix, mask), nuclear_norm(matrix * mask))
    assert torch.autograd.gradcheck(lambda m: nuclear_norm(m, mask), matrix)
    (gradient,) = torch.autograd.grad(nuclear_norm(matrix, mask), matrix)
    assert gradient[~mask].eq(0).all()


def test_zero_matrix_has_a_zero_subgradient():
    matrix = torch.zeros(3, 2, requires_grad=True)
    value = nuclear_norm(matrix)
    assert value == 0
    assert torch.autograd.grad(value, matrix)[0].eq(0).all()


def test_it_adds_the_norms_of_all_layers_in_every_other_step(trainer):
    lower = trainer(NuclearNorm(strength=0.1, every=2)).lower
    for number in (0, 1):
        step = lower.begin(number, lower.batches.at(number), lower.space.values(lower.space.start), "elementary")
        loss = lower.loss(step, lower.network, lower.parameters)
        plain = torch.nn.functional.cross_entropy(step.logits, step.labels)
        norms = sum(nuclear_norm(lower.network[layer].weight) for layer in (0, 2, 4))
        torch.testing.assert_close(loss, plain + (0.1 * norms if number == 0 else 0))
