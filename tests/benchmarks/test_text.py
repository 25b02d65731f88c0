"""The benchmark on text runs on text of its own, and tunes all seven hyperparameters."""

import pytest
from text import Size, generated, objective_of, run, tokens_of

SMALL = Size(800, 300, 300, vocabulary=12, context=10, batch=8, validation_batch=8, embedding=8, hidden=12)


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_the_seven_move_only_where_they_are_tuned(unit):
    objective = objective_of(generated(), unit, SMALL)
    held, values = run(objective, SMALL.layers, steps=4, seed=0, tuned=False)
    assert held["training_step"] == 4
    assert values == {}
    tuned, values = run(objective, SMALL.layers, steps=12, seed=0, tuned=True, warmup_steps=4)
    assert tuned["test_loss"] > 0
    assert len(values) == 7
    assert all(value != 0.05 for value in values.values())


def test_rare_words_are_one():
    tokens, vocabulary = tokens_of("a a a b b c d e f " * 40, "words", Size(200, 50, 50, vocabulary=4))
    assert vocabulary == 4
    assert set(tokens.tolist()) == {0, 1, 2, 3}
    assert float((tokens == 0).double().mean()) == pytest.approx(3 / 9, abs=0.01)


def test_too_short_a_text_says_so():
    with pytest.raises(SystemExit, match="the text has 3 words"):
        tokens_of("to be or", "words", SMALL)
