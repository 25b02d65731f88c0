"""Where regularizers start without a search: rules that several entries of the catalogue share."""

from __future__ import annotations

import math

from selftune.hyperparameters import StartRule
from selftune.lower_level.start_values import Setup

_ADAMW = ("adam", "adamw")
_INPUT_DROPOUT = 0.2


def timescale(tokens_per_parameter: float) -> float:
    """AdamW's timescale: the share of the run over which its weights are an average of updates.

    ``1.084 tokens_per_parameter ** -0.527``, fitted at 20 to 1,280 tokens per parameter, each seen once.

    Source: "Power Lines: Scaling Laws for Weight Decay and Batch Size in LLM Pre-training" (arXiv 2505.13738),
    figure 1 and the power law of the timescale in section 3.

    >>> round(timescale(20.0), 3)
    0.224
    """
    return 1.084 * tokens_per_parameter**-0.527  # type: ignore[no-any-return]


def decay_of(timescale: float, learning_rate: float, updates: int) -> float:
    """The decoupled weight decay with a timescale: ``1 / (learning_rate * updates * timescale)``.

    AdamW's weights are an exponential average of its last ``1 / (learning_rate * decay)`` updates, which is the
    share ``timescale`` of all ``updates``; with D tokens in batches of B these are D / B, so that the timescale is
    B / (learning_rate * decay * D).

    Source: "How to set AdamW's weight decay as you scale model and dataset size" (arXiv 2405.13698), section 3;
    arXiv 2505.13738, section 2.

    >>> decay_of(0.25, learning_rate=1e-3, updates=4000)
    1.0
    """
    return 1 / (learning_rate * updates * timescale)


def adamw_decay(setup: Setup) -> float:
    """The strength of AdamW's decoupled weight decay.

    The timescale of the power law at the tokens per parameter that the run sees, but no less than one epoch and no
    more than the whole run: shorter averages leave examples out, and longer ones do not forget the initial weights
    (arXiv 2405.13698). Repeated examples count each time they are seen, which the power law was not fitted for.
    """
    if setup.optimizer not in _ADAMW:
        raise ValueError(
            f"the rule for weight decay is that of Adam and AdamW, and the optimizer is {setup.optimizer}"
        )
    seen = setup.examples_seen * setup.elements
    epoch = setup.examples / setup.examples_seen  # as a share of the run
    share = min(max(timescale(seen / setup.parameters), epoch if epoch < 1 else 0.0), 1.0)
    return decay_of(share, setup.learning_rate, setup.updates)


def penalty_decay(setup: Setup) -> float:
    """The strength of a quadratic penalty that decays weights as ``adamw_decay`` does when training begins.

    Adam divides the gradient of the penalty, strength times weight, by the root of its mean square gradient, which
    is that of the loss at first: there the penalty is a decoupled decay of ``strength / gradient``.

    Source: "Decoupled Weight Decay Regularization" (arXiv 1711.05101), section 2 and proposition 3.
    """
    return adamw_decay(setup) * setup.gradient


def dropout_rate(setup: Setup) -> float:
    """A plain default, which no paper proves: ``0.2 / (1 + examples per parameter)``.

    0.2 is what the first paper on dropout drops of the inputs (arXiv 1207.0580), where networks have many more
    parameters than there are examples; large data need little noise (arXiv 2305.13230). Loss values count, so
    that each token of a text is an example.
    """
    return _INPUT_DROPOUT / (1 + setup.examples * setup.elements / setup.parameters)


def relative_variance(setup: Setup) -> float:
    """The variance of a noise of mean one that all noises of a study start with.

    It is ``rate / (1 - rate)``, the variance of dropout's factors, of the dropout of the study where that has a
    number, and of ``dropout_rate`` else.
    """
    given = setup.start_of("dropout", "rate")
    rate = dropout_rate(setup) if given is None else given
    return rate / (1 - rate)


def balanced_rate(setup: Setup) -> float:
    """The rate of a dropout in balance with the other noises of the study."""
    variance = relative_variance(setup)
    return variance / (1 + variance)


def balanced_sigma(setup: Setup) -> float:
    """The standard deviation of additive noise on inputs that perturbs them as much as dropout on them would.

    Dropout multiplies an input x by a factor of mean one and variance r, so that it adds noise of variance r x²;
    the mean of that over all inputs is the variance here.
    """
    return math.sqrt(relative_variance(setup) * setup.mean_square_input)


def trivial_augment(largest: float) -> StartRule:
    """Half of the largest magnitude of TrivialAugment's range.

    TrivialAugment draws the magnitude of an augmentation uniformly from its range, once per image, and needs no
    search. Where one magnitude says how far all images go at most, half of the largest one is the middle of the
    range, and mean of those draws.

    >>> trivial_augment(30.0).value(None)
    15.0
    """
    source = (
        "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation (2103.10158), the middle of its range"
    )
    return StartRule(largest / 2, source)


ADAMW_DECAY = StartRule(
    adamw_decay,
    "Power Lines: Scaling Laws for Weight Decay and Batch Size in LLM Pre-training (2505.13738); within the bounds"
    " of How to set AdamW's weight decay as you scale model and dataset size (2405.13698)",
)
PENALTY_DECAY = StartRule(
    penalty_decay, f"{ADAMW_DECAY.source}; as a penalty by Decoupled Weight Decay Regularization (1711.05101)"
)
DROPOUT_RATE = StartRule(
    dropout_rate, "a plain default, 0.2 / (1 + examples per parameter); 0.2 is the input dropout of 1207.0580"
)
BALANCED_RATE = StartRule(balanced_rate, "in balance with the dropout of the study, else as dropout's")
BALANCED_SIGMA = StartRule(
    balanced_sigma, "in balance: the variance that dropout has, relative to the mean square of the inputs"
)
