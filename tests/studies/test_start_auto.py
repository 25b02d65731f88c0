"""``start: auto`` on every road: study files, the command, ``tune``, a loop of one's own, resume."""

import pytest
import torch
from torch import nn

from selftune import Classification, OnlineTuner, Optimization, Tune, tune
from selftune.cli import main
from selftune.errors import SettingError
from selftune.studies.mistakes import Mistakes
from selftune.studies.rule_study import rule_study
from selftune.studies.study_file import parse_study

STUDY = """
study: tiny
objective: {task: digits, hidden: [16], optimizer: adam, learning_rate: 0.01}
regularizers:
  dropout: {rate: {start: auto}}
  gaussian_input_noise: {sigma: {start: auto}}
  weight_decay: {parts: layer, strength: {start: auto}}
  label_smoothing: {epsilon: auto}
method: {name: self_tuning, warmup_steps: 5}
budget: {steps: 12}
"""


def perceptron():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def objective():
    generator = torch.Generator().manual_seed(0)
    splits = [(torch.randn(n, 6, generator=generator), torch.arange(n) % 3) for n in (64, 32, 32)]
    return Classification(perceptron, *splits, Optimization(batch_size=16, optimizer="adam"))


def starts(study):
    values = study.space.values(study.space.start)
    return {h.name: values[h.name] for h in study.space.hyperparameters}


def test_a_study_file_starts_at_the_values_of_the_rules():
    study = parse_study(STUDY)
    found = starts(study)
    assert {h.name for h in study.space.tuned} == {
        "dropout.rate",
        "gaussian_input_noise.sigma",
        "weight_decay.strength",
    }
    rate = 0.2 / (1 + 400 / (64 * 16 + 16 + 16 * 10 + 10))
    assert found["dropout.rate"].item() == pytest.approx(rate, rel=1e-5)
    assert found["gaussian_input_noise.sigma"].item() == pytest.approx((rate / (1 - rate)) ** 0.5, rel=1e-3)
    assert found["label_smoothing.epsilon"].item() == pytest.approx(0.1)
    assert len(set(found["weight_decay.strength"].tolist())) == 1  # a value for each of the parts


def test_noise_is_in_balance_with_a_dropout_that_has_a_number():
    study = parse_study(STUDY.replace("rate: {start: auto}", "rate: {start: 0.05}"))
    assert starts(study)["gaussian_input_noise.sigma"].item() == pytest.approx(0.229, abs=1e-3)


def test_check_prints_what_auto_gave(tmp_path, capsys):
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    assert main(["check", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "dropout.rate from 0.15" in printed


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "gaussian_input_noise: {sigma: {start: auto}}",
            "l1: {strength: {start: auto}}",
            "regularizers.l1.strength.start: no rule says where strength starts; give l1.strength a number",
        ),
        (
            "optimizer: adam",
            "optimizer: sgd",
            "regularizers.weight_decay.strength.start: the rule for weight decay is that of Adam and AdamW",
        ),
        ("{steps: 12}", "{seconds: 9}", "regularizers.weight_decay.strength.start: needs to know how long"),
        (
            "epsilon: auto",
            "epsilon: automatic",
            "regularizers.label_smoothing.epsilon: must be a number in [0, 1]",
        ),
    ],
)
def test_a_study_without_a_rule_is_refused_with_the_key(before, after, message):
    assert before in STUDY
    with pytest.raises(Mistakes) as refused:
        parse_study(STUDY.replace(before, after))
    assert [str(mistake)[: len(message)] for mistake in refused.value.mistakes] == [message]


def test_hyperparameters_of_a_task_have_no_rules():
    with pytest.raises((Mistakes, SettingError), match="no rule says where it starts; give a number"):
        parse_study(STUDY.replace("hidden: [16]", "hidden: [16], example_weights: {start: auto}"))


def test_tune_takes_auto_and_goes_on_from_its_folder(tmp_path):
    given = {"dropout": {"rate": Tune("auto")}, "weight_decay": {"strength": Tune("auto")}}

    def tuned(regularizers, **kwargs):
        return tune(objective(), regularizers, steps=20, warmup_steps=5, progress=False, **kwargs)

    first = tuned(given, output=tmp_path / "run")
    assert tuned(given, output=tmp_path / "run").hyperparameters == first.hyperparameters
    numbers = {"dropout": {"rate": Tune(0.2 / (1 + 64 / 83))}, "weight_decay": {"strength": Tune(0.1)}}
    study = rule_study(parse_study(STUDY)).study
    assert study.regularizers[0].settings["rate"].start > numbers["dropout"]["rate"].start
    assert tuned({"dropout": numbers["dropout"]}).trajectory[0].hyperparameters.shape == (1,)


def test_a_loop_of_ones_own_takes_rules_that_need_no_more_than_it_knows():
    model = perceptron()

    def tuner(regularizers, **kwargs):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        return OnlineTuner(
            model,
            optimizer,
            regularizers,
            loss=lambda outputs, batch: nn.functional.cross_entropy(outputs, batch[1], reduction="none"),
            validation=[(torch.randn(32, 6), torch.arange(32) % 3)],
            forward=lambda model, batch: model(batch[0]),
            **kwargs,
        )

    with pytest.raises(SettingError, match=r"dropout.rate.start: needs the number of training examples"):
        tuner({"dropout": {"rate": Tune("auto")}})
    with pytest.raises(SettingError, match=r"strength.start: needs the batch size, which a training loop"):
        tuner({"decoupled_weight_decay": {"strength": Tune("auto")}}, steps=100)
    made = tuner({"dropout": {"rate": Tune("auto")}, "mixup": {"alpha": Tune("auto")}}, examples=83)
    assert made.hyperparameters == pytest.approx({"dropout.rate": 0.1, "mixup.alpha": 0.2}, rel=1e-5)
    made.close()


def test_the_study_of_the_rules_starts_there_and_says_what_has_none():
    text = STUDY.replace("label_smoothing: {epsilon: auto}", "l1: {strength: {start: 0.01}}").replace(
        "auto", "0.01"
    )
    found = rule_study(parse_study(text))
    automatic = starts(parse_study(STUDY))
    assert found.values["dropout.rate"] == pytest.approx(automatic["dropout.rate"].item())
    assert found.values["gaussian_input_noise.sigma"] == pytest.approx(
        automatic["gaussian_input_noise.sigma"].item()
    )
    assert found.kept == {"l1.strength": "no rule says where strength starts"}
    assert starts(found.study)["l1.strength"].item() == pytest.approx(0.01)
    assert found.study.space.names == parse_study(text).space.names
    stochastic = rule_study(parse_study(text.replace("optimizer: adam", "optimizer: sgd")))
    assert "the optimizer is sgd" in stochastic.kept["weight_decay.strength"]
