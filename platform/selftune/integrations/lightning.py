"""A callback that tunes regularization while Lightning's ``Trainer`` trains.

Lightning keeps what is its own: devices, precision, accumulation, clipping, schedules of the learning rate,
checkpoints, loggers. The callback gives it another loss, and stands before and after the optimizer's step.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.integrations.replaced import replaced
from selftune.lower_level.losses import Losses
from selftune.shapes import Float, Tensor
from selftune.training.online_tuner import OnlineTuner


def _lightning() -> Any:
    """The package that is in use already, of two that hold the same classes twice; else the one that is there."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(names, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):
                raise
    raise ModuleNotFoundError('Lightning is not installed: pip install "selftune[lightning]"', name="lightning")


Callback: Any = _lightning().Callback


class TuneRegularization(Callback):
    """Regularizes and tunes the module that ``Trainer.fit`` trains, as ``OnlineTuner`` does in one's own loop.

    The training loss is ``loss`` with what the regularizers do to it: the module's ``training_step`` is not called
    while the callback is there, and the callback logs ``train_loss`` in its place. All else of the module is
    called as ever. Values of hyperparameters are logged by their names.

    Args:
        regularizers: settings by the names of regularizers, or regularizers.
        loss: the loss of every example of ``(outputs, batch)``, or ``Losses`` of its elements; no mean.
        validation: batches of the upper level; None takes the trainer's validation loader.
        validation_loss: as ``loss``, of validation batches; None takes ``loss``.
        forward: the outputs of ``(module, batch)``; None calls ``module(batch)``.
        settings: further arguments of ``OnlineTuner``, such as ``quantities``, ``method`` or ``seed``.

    Raises:
        SettingError: when training starts, as ``OnlineTuner``; or if the module steps its optimizers by itself
            (manual optimization), or it is not clear which validation loader is meant.

    >>> import torch
    >>> from torch import nn
    >>> from selftune import Tune
    >>> class Classifier(_lightning().LightningModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    ...     def forward(self, inputs):
    ...         return self.net(inputs)
    ...     def training_step(self, batch, number):
    ...         return nn.functional.cross_entropy(self(batch[0]), batch[1])
    ...     def configure_optimizers(self):
    ...         return torch.optim.Adam(self.parameters())
    >>> examples = torch.utils.data.TensorDataset(torch.randn(64, 8), torch.randint(3, (64,)))
    >>> loader = torch.utils.data.DataLoader(examples, batch_size=16)
    >>> tune = TuneRegularization(
    ...     {"dropout": {"rate": Tune(0.1)}},
    ...     forward=lambda module, batch: module(batch[0]),
    ...     loss=lambda outputs, batch: nn.functional.cross_entropy(outputs, batch[1], reduction="none"),
    ...     validation=[(torch.randn(32, 8), torch.randint(3, (32,)))],
    ...     warmup_steps=2,
    ... )
    >>> quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    >>> trainer = _lightning().Trainer(max_epochs=2, callbacks=[tune], enable_model_summary=False, **quiet)
    >>> trainer.fit(Classifier(), loader)
    >>> list(tune.tuner.hyperparameters)
    ['dropout.rate']
    """

    def __init__(
        self,
        regularizers: Mapping[str, Any] | Iterable[Any],
        *,
        loss: Callable[[Any, Any], Float[Tensor, "batch"] | Losses],
        validation: Iterable[Any] | None = None,
        validation_loss: Callable[[Any, Any], Float[Tensor, "batch"] | Losses] | None = None,
        forward: Callable[[Callable[..., Any], Any], Any] | None = None,
        **settings: Any,
    ) -> None:
        self.tuner: OnlineTuner | None = None
        """What does it, from the start of training on."""
        self._regularizers = regularizers
        self._loss = loss
        self._validation = validation
        self._validation_loss = validation_loss or loss
        self._settings = {"forward": forward, **settings}
        self._loaded: Mapping[str, Any] | None = None
        self._logged = 0
        self._fitting = ExitStack()

    # What Lightning calls --------------------------------------------------------------------------------

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Takes the place of the module's loss; optimizer and weights are there, and a checkpoint is loaded."""
        if not module.automatic_optimization:
            raise SettingError(
                "automatic_optimization",
                "is off, so that training_step owns backward and step; use selftune.OnlineTuner in it",
            )
        (optimizer,) = trainer.optimizers  # several need manual optimization
        steps = trainer.estimated_stepping_batches
        tuner = self.tuner = OnlineTuner(
            module,
            optimizer,
            self._regularizers,
            loss=self._loss,
            validation=(self._loader(trainer), self._validation_loss),
            **{"steps": int(steps) if math.isfinite(steps) and steps > 0 else None, **self._settings},
        )
        if self._loaded is not None:
            tuner.load_state_dict(self._loaded)
            self._loaded = None
        self._logged = 0
        self._fitting.callback(tuner.close)

        def training_step(batch: Any, *_: Any) -> Tensor:
            loss = tuner.loss(batch)
            module.log("train_loss", loss.detach(), prog_bar=True)
            return loss

        self._fitting.enter_context(replaced(module, "training_step", lambda _: training_step))
        # torch's own hook: it is not called where a gradient scaler leaves the step out.
        self._fitting.callback(optimizer.register_step_post_hook(lambda *_: tuner.after_step()).remove)

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: torch.optim.Optimizer) -> None:
        """Regularizers change gradients, which Lightning then clips, as the engine's own trainer does."""
        assert self.tuner is not None
        self.tuner.before_step()

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        """Logs hyperparameters that have moved."""
        assert self.tuner is not None
        if len(self.tuner.trajectory) != self._logged:
            self._logged = len(self.tuner.trajectory)
            module.log_dict(self.tuner.hyperparameters)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._fitting.close()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self._fitting.close()

    # Checkpoints ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What Lightning's checkpoint of the module and the optimizer does not hold."""
        return {} if self.tuner is None else self.tuner.state_dict(whole=False)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._loaded = state_dict  # until the tuner is there

    # ---------------------------------------------------------------------------------------------------

    def _loader(self, trainer: Any) -> Iterable[Any]:
        """The validation data that are tuned on.

        Raises:
            SettingError: if there are none, or nobody says which of several.
        """
        loader = self._validation if self._validation is not None else trainer.val_dataloaders
        if loader is None:
            raise SettingError("validation", "is missing, and the trainer has no validation loader, either")
        if self._validation is None and isinstance(loader, Mapping | Sequence):
            raise SettingError(
                "validation", f"must be given, because the trainer has {len(loader)} validation loaders"
            )
        return loader
