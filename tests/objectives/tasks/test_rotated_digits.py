import pytest
import torch
from selftune.objectives.tasks.rotated_digits import RotatedDigits

from selftune.errors import SettingError
from selftune.methods.work_orders import FinishTraining, FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

PENALTIES = (
    "correlation_alignment",
    "fishr",
    "hessian_gradient_alignment",
    "inter_environment_gradient_alignment",
    "invariant_risk_minimization",
    "risk_extrapolation",
)


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "adam", "learning_rate": 1e-3}], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", PENALTIES)
def test_defaults_train(name, optimizer):
    """Far from chance, a tenth, at an angle that was never seen, after a short run."""
    trainer = Trainer(RotatedDigits(**optimizer), [regularizers[name]()], steps=120)
    report = trainer.execute(FollowSchedule(segments=((120, torch.empty(0)),)))
    assert report.kind == "replay", report.message
    assert trainer.execute(FinishTraining()).metrics["validation_accuracy"] > 0.5


def test_batches_hold_as_many_of_each_angle():
    lower = Trainer(RotatedDigits(), []).lower
    assert lower.batches.at(11).batch["domains"].bincount().tolist() == [32, 32, 32]
    lower = Trainer(RotatedDigits(balanced=False, batch_size=100), []).lower
    assert lower.batches.at(11).batch["domains"].bincount().tolist() != [32, 32, 32]
    with pytest.raises(SettingError, match="multiple of 3"):
        RotatedDigits(batch_size=100)
