import torch
from selftune.objectives.regularizers.adaptation.old_feature_distillation import old_feature_distillation


def test_squared_distance(draw):
    features, old = draw(4, 3).requires_grad_(), draw(4, 3).requires_grad_()
    value = old_feature_distillation(features, old)
    value.sum().backward()
    torch.testing.assert_close(features.grad, 2 * (features - old).detach())
    assert old.grad is None
    assert not old_feature_distillation(old, old).any()


def test_rotation_and_scale(draw):
    features, old, rotation = draw(4, 3), draw(4, 3), torch.linalg.qr(draw(3, 3)).Q
    value = old_feature_distillation(features, old)
    torch.testing.assert_close(old_feature_distillation(features @ rotation, old @ rotation), value)
    torch.testing.assert_close(old_feature_distillation(3 * features, 3 * old), 9 * value)
