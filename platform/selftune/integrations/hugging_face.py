"""A callback that tunes regularization while Hugging Face's ``Trainer`` trains.

The trainer keeps what is its own: devices, precision, accumulation, clipping, schedules of the learning rate,
checkpoints, loggers. The callback gives it another loss, and stands before and after the optimizer's step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback

from selftune.errors import SettingError
from selftune.integrations.hugging_face_loss import element_losses, logits, share_of_batch
from selftune.integrations.replaced import replaced
from selftune.lower_level.losses import Losses
from selftune.shapes import Float, Tensor
from selftune.training.online_tuner import OnlineTuner

_KEY = "selftune"


class TuneRegularization(TrainerCallback):
    """Regularizes and tunes the model that ``Trainer.train`` trains, as ``OnlineTuner`` does in one's own loop.

    While it trains, the model gives the trainer the loss of this callback in place of its own; evaluation sees the
    plain model. Values of hyperparameters are logged by their names.

    Args:
        regularizers: settings by the names of regularizers, or regularizers.
        validation: examples of the upper level: a data set, which is batched as the training data are, or a loader
            of ready batches.
        loss: the loss of every example of ``(outputs, batch)``, or ``Losses`` of its elements; no mean. None takes
            that of the model's kind: cross-entropy of classes or tokens (shifted by one for causal language
            models; labels of -100 do not count), binary cross-entropy of several labels, squared error.
        validation_loss: as ``loss``, of validation batches; None takes ``loss``.
        forward: the outputs of ``(model, batch)``; None gives the model the batch without its labels and takes
            the logits.
        settings: further arguments of ``OnlineTuner``, such as ``quantities``, ``method`` or ``seed``.

    Raises:
        SettingError: when training starts, as ``OnlineTuner``; or if the trainer's settings leave the callback no
            loss to give: ``label_smoothing_factor``, ``torch_compile``, several devices in one process, sharded
            parameters.
    """

    def __init__(
        self,
        regularizers: Mapping[str, Any] | Sequence[Any],
        *,
        validation: Dataset[Any] | DataLoader[Any],
        loss: Callable[[Any, Any], Float[Tensor, "batch"] | Losses] | None = None,
        validation_loss: Callable[[Any, Any], Float[Tensor, "batch"] | Losses] | None = None,
        forward: Callable[[Callable[..., Any], Any], Any] | None = None,
        **settings: Any,
    ) -> None:
        self.tuner: OnlineTuner | None = None
        """What does it, from the start of training on."""
        self._regularizers = regularizers
        self._validation = validation
        self._loss = loss
        self._validation_loss = validation_loss or loss
        self._forward = forward
        self._settings = settings
        self._at_work = False
        self._training = ExitStack()

    # What the trainer calls ------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes the place of the model's loss; optimizer and weights are there, and a checkpoint is loaded."""
        _check(args)
        self._training.close()  # of a call that raised
        model = kwargs["model"]
        optimizer = getattr(
            kwargs["optimizer"], "optimizer", kwargs["optimizer"]
        )  # not Accelerate's shell around it
        loss = self._loss or functools.partial(element_losses, model)
        with self._working():
            tuner = self.tuner = OnlineTuner(
                model,
                optimizer,
                self._regularizers,
                loss=loss,
                validation=(self._loader(args, kwargs["train_dataloader"]), self._validation_loss or loss),
                forward=self._forward or functools.partial(logits, model),
                **{"steps": state.max_steps, **self._settings},
            )
            # The optimizer's file of a checkpoint carries the tuner's state, so that they cannot be parted.
            saved = optimizer.param_groups[0].pop(_KEY, None)
            if saved is not None:
                tuner.load_state_dict(saved)

        self._training.callback(tuner.close)

        def carry(_: torch.optim.Optimizer, found: dict[str, Any]) -> None:
            found["param_groups"][0][_KEY] = tuner.state_dict(whole=False)

        self._training.callback(optimizer.register_state_dict_post_hook(carry).remove)
        self._training.enter_context(
            replaced(model, "forward", functools.partial(self._regularized, model, tuner))
        )

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.tuner is not None
        with self._working():
            self.tuner.before_step()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.tuner is not None
        if getattr(kwargs["optimizer"], "step_was_skipped", False):  # by a gradient scaler
            return
        with self._working():
            self.tuner.after_step()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Adds the hyperparameters to the trainer's history and to what callbacks after this one see."""
        logs = kwargs["logs"]
        if self.tuner is not None and "loss" in logs:  # of training, not of an evaluation
            values = self.tuner.hyperparameters
            state.log_history[-1].update(values)
            logs.update(values)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._training.close()

    # ------------------------------------------------------------------------------------------------

    @contextmanager
    def _working(self) -> Iterator[None]:
        """While the tuner runs the model, which is then itself."""
        before, self._at_work = self._at_work, True
        try:
            yield
        finally:
            self._at_work = before

    def _regularized(
        self, model: nn.Module, tuner: OnlineTuner, forward: Callable[..., Any]
    ) -> Callable[..., Any]:
        """The model's pass, with the tuner's loss where the trainer asks for the training loss."""

        @functools.wraps(forward)
        def regularized(*arguments: Any, num_items_in_batch: Tensor | int | None = None, **batch: Any) -> Any:
            if self._at_work or not model.training:
                if num_items_in_batch is not None:
                    batch["num_items_in_batch"] = num_items_in_batch
                return forward(*arguments, **batch)
            if self._loss is None and "labels" not in batch:
                raise SettingError(
                    "labels",
                    "do not reach the model; a loss function of the trainer goes to TuneRegularization(loss=)",
                )
            with self._working():
                loss = tuner.loss(batch)
            # the trainer divides by the number of accumulated batches where it does not count their elements
            return {
                "loss": loss
                if num_items_in_batch is None
                else loss * share_of_batch(model, batch, num_items_in_batch)
            }

        return regularized

    def _loader(self, args: Any, training: DataLoader[Any]) -> DataLoader[Any]:
        """Batches of validation examples, made as the trainer makes those of training examples."""
        examples = self._validation
        if isinstance(examples, DataLoader):
            return examples
        columns = getattr(training.dataset, "column_names", None)  # of datasets.Dataset, without unused ones
        if columns is not None and hasattr(examples, "select_columns"):
            examples = examples.select_columns(columns)
        return DataLoader(
            examples, batch_size=args.per_device_eval_batch_size, shuffle=True, collate_fn=training.collate_fn
        )


def _check(args: Any) -> None:
    """Refuses what leaves the callback no loss to give.

    Raises:
        SettingError: with the name of the setting.
    """
    if args.label_smoothing_factor:
        raise SettingError("label_smoothing_factor", "must be 0; tune the regularizer label_smoothing instead")
    if args.torch_compile:
        raise SettingError("torch_compile", "must be off: a compiled model cannot be given another loss")
    if args.n_gpu > 1:
        raise SettingError("n_gpu", f"is {args.n_gpu}, in one process; start one process per device with torchrun")
    if args.deepspeed or args.fsdp:
        raise SettingError(
            "deepspeed" if args.deepspeed else "fsdp", "shards parameters, which cannot be tuned yet"
        )
