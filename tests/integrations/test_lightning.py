"""A module is tuned by Lightning's own trainer as it would be in a loop of one's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

L = pytest.importorskip("pytorch_lightning", reason="the extra lightning is not installed")

from sklearn.datasets import load_digits  # noqa: E402

from selftune import OnlineTuner, Tune  # noqa: E402
from selftune.errors import SettingError  # noqa: E402
from selftune.integrations.lightning import TuneRegularization  # noqa: E402

STRENGTHS = {"dropout": {"rate": Tune(0.2)}, "weight_decay": {"strength": Tune(1e-3)}}
SETTINGS = {"warmup_steps": 4, "train_steps": 2}


class Classifier(L.LightningModule):
    """As anybody would write it down; it knows nothing of selftune."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, number):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, number):
        self.log("validation_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 7), "interval": "step"},
        }


class Steps(Classifier):
    """Owns backward and step."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


def forward(module, batch):
    return module(batch[0])


def loss(outputs, batch):
    return F.cross_entropy(outputs, batch[1], reduction="none")


@pytest.fixture(scope="module")
def loaders():
    data = load_digits()
    inputs, labels = torch.tensor(data.data).float() / 16, torch.tensor(data.target)
    training = TensorDataset(inputs[:160], labels[:160])
    validation = TensorDataset(inputs[160:260], labels[160:260])
    return DataLoader(training, batch_size=16), DataLoader(validation, batch_size=50)


@pytest.fixture
def fit(loaders, tmp_path):
    """Trains a fresh module, the same one every time."""

    def run(callback=None, epochs=1, module=None, checkpoint=None, validation=True, **settings):
        torch.manual_seed(0)
        module = module or Classifier()
        trainer = L.Trainer(
            max_epochs=epochs,
            callbacks=[callback] if callback else [],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **settings,
        )
        trainer.fit(module, loaders[0], loaders[1] if validation else None, ckpt_path=checkpoint)
        return module, trainer

    return run


def tuning(regularizers=STRENGTHS, **settings):
    return TuneRegularization(
        regularizers, loss=loss, forward=forward, **(SETTINGS if regularizers else {}), **settings
    )


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    "settings",
    [{}, {"gradient_clip_val": 0.1, "accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}],
    ids=["plain", "clipped and accumulated", "bfloat16"],
)
def test_without_regularizers_it_trains_as_ever(fit, settings):
    plain, _ = fit(**settings)
    ours, _ = fit(tuning({}), **settings)
    assert same(plain, ours)


def test_strengths_move(fit):
    callback = tuning()
    _, trainer = fit(callback, epochs=3)
    values = callback.tuner.hyperparameters
    assert values["dropout.rate"] != 0.2
    assert values["weight_decay.strength"] != 1e-3
    for name, value in values.items():
        assert trainer.callback_metrics[name] == pytest.approx(float(value))
    assert trainer.callback_metrics["train_loss"] > 0


def test_it_is_a_loop_of_ones_own(fit, loaders):
    callback = tuning()
    module, _ = fit(callback, epochs=2)
    torch.manual_seed(0)
    own = Classifier()
    settings = own.configure_optimizers()
    optimizer, schedule = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    tuner = OnlineTuner(
        own, optimizer, STRENGTHS, loss=loss, forward=forward, validation=(loaders[1], loss), steps=20, **SETTINGS
    )
    for _ in range(2):
        for batch in loaders[0]:
            tuner.loss(batch).backward()
            tuner.step()
            schedule.step()
    assert same(own, module)
    assert tuner.hyperparameters == callback.tuner.hyperparameters


def test_a_checkpoint_carries_the_tuner(fit, tmp_path):
    whole = tuning()
    through, _ = fit(whole, epochs=4)
    _, trainer = fit(tuning(steps=40), epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest = tuning()
    resumed, _ = fit(rest, epochs=4, checkpoint=tmp_path / "half.ckpt")
    assert same(through, resumed)
    assert whole.tuner.hyperparameters == rest.tuner.hyperparameters


def test_the_module_is_itself_afterwards(fit):
    module, _ = fit(tuning())
    assert "training_step" not in vars(module)
    batch = torch.rand(2, 64), torch.tensor([0, 1])
    assert module.train().training_step(batch, 0) == F.cross_entropy(module.net(batch[0]), batch[1])


def test_a_module_is_tuned_twice(fit):
    module, _ = fit(tuning())
    again = tuning()
    fit(again, module=module)
    assert again.tuner.trajectory


def test_the_module_is_itself_after_an_error(fit):
    class Breaks(Classifier):
        def on_train_batch_end(self, *_):
            raise RuntimeError("as users' hooks do")

    module = Breaks()
    with pytest.raises(RuntimeError, match="as users' hooks do"):
        fit(tuning(), module=module)
    assert "training_step" not in vars(module)


def test_manual_optimization_is_refused(fit):
    with pytest.raises(SettingError, match="automatic_optimization: is off, so that training_step owns"):
        fit(tuning(), module=Steps())


def test_validation_data_are_needed(fit):
    with pytest.raises(SettingError, match="validation: is missing, and the trainer has no validation loader"):
        fit(tuning(), validation=False)
