"""A language model on a text: an LSTM or a transformer predicts the next character or word."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from selftune.objectives.common.dataset_key import check_word, under_dataset
from selftune.objectives.common.sizes import check_sizes
from selftune.objectives.data.bundled_text import descriptions
from selftune.objectives.data.held_readings import held
from selftune.objectives.data.text_files import Text, read_text, text_in_memory
from selftune.objectives.networks.awd_lstm import AWDLSTM
from selftune.objectives.networks.gpt import GPT

from selftune.data import SPLITS
from selftune.errors import SettingError
from selftune.lower_level.language_modelling import LanguageModelling
from selftune.lower_level.objective import tasks
from selftune.lower_level.optimization import Optimization

BUNDLED = "descriptions"
_HEADS = 4
_read = held(read_text)


@dataclass
class LanguageModel(LanguageModelling):
    """A network that predicts every token of a text from those before it.

    ``lstm`` is that of AWD-LSTM: layers ``embedding``, ``layers.0``, ``layers.1``..., ``decoder``, the embedding
    and the decoder with one weight. ``transformer`` is a decoder in the style of GPT-2: ``tokens``, ``positions``,
    ``blocks.0``..., ``head``. Both are without dropout of their own, which regularizers bring. Windows of the text
    start from a state of zeros.

    Args:
        dataset: path of a text file, a folder of them, or Parquet (see ``read_text``); ``descriptions`` are those
            of scikit-learn's data sets, about 43,000 characters of English.
        unit: what a token is; words are told apart in lower case only where the text is.
        vocabulary: number of tokens to tell apart; rarer ones are one. None takes all of the training text.
        split: fractions for validation and test, 0.2 each unless given, where files do not say.
        architecture: the network.
        width: of the embedding, and of everything in a transformer.
        hidden: units of the LSTM layers but the last; None takes twice the width.
        heads: of the transformer, a divisor of its width; None takes 4.
        depth: LSTM layers, or blocks of the transformer.
        context: tokens that a prediction can see.
        batch_size: windows per training step.
        optimizer, learning_rate, momentum: see ``Optimization``; gradients are clipped to norm 1.
        validation_batch_size: windows per hypergradient; None uses the whole validation split.

    Raises:
        SettingError: if there is no such text, a split is shorter than a batch, or a size is out of its range.

    Source: "Regularizing and Optimizing LSTM Language Models" (arXiv 1708.02182), its network; sizes are ours.

    >>> LanguageModel(unit="words", vocabulary=100).classes
    100
    """

    dataset: str = BUNDLED
    unit: Literal["characters", "words"] = "characters"
    vocabulary: int | None = None
    split: dict[str, float] | None = None
    architecture: Literal["lstm", "transformer"] = "lstm"
    width: int = 32
    hidden: int | None = None
    heads: int | None = None
    depth: int = 2
    context: int = 32
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 0.01
    momentum: float | None = None
    validation_batch_size: int | None = 64

    def __post_init__(self) -> None:
        check_sizes(self, "width", "hidden", "heads", "depth", "context")
        text = self._text()
        self.vocabulary_tokens = text.vocabulary
        optimization = Optimization(
            self.batch_size, self.optimizer, self.learning_rate, self.momentum, clip_norm=1.0
        )
        train, validation, test = (text.tokens[text.splits[name]] for name in SPLITS)
        build = self._builder(len(text.vocabulary))
        super().__init__(build, train, validation, test, optimization, self.validation_batch_size, self.context)

    def _text(self) -> Text:
        if self.dataset != BUNDLED:
            check_word(self.dataset, [BUNDLED])
            with under_dataset():
                return _read(self.dataset, self.unit, self.vocabulary, self.split)
        return text_in_memory(descriptions(), self.unit, self.vocabulary, self.split)

    def _builder(self, vocabulary: int) -> Any:
        """Makes the network.

        Raises:
            SettingError: if a setting is for the other architecture, or the heads do not divide the width.
        """
        if self.architecture == "lstm":
            if self.heads is not None:
                raise SettingError(
                    "heads", "are for a transformer; leave them out, or set architecture: transformer"
                )
            return partial(AWDLSTM, vocabulary, self.width, self.hidden or 2 * self.width, self.depth)
        if self.hidden is not None:
            raise SettingError("hidden", "is for an LSTM; a transformer has width alone")
        heads = self.heads or _HEADS
        if self.width % heads:
            raise SettingError("width", f"must be a multiple of the {heads} heads, got {self.width}")
        return partial(GPT, vocabulary, self.context, self.width, self.depth, heads)


tasks.register("language_model", LanguageModel)
