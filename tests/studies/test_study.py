import pytest
import torch

from selftune.cli import main
from selftune.hyperparameters import Integer, Interval
from selftune.methods import Budget, SelfTuning
from selftune.studies.hyperparameter_values import parse_value
from selftune.studies.machine import check_room
from selftune.studies.mistakes import Mistakes
from selftune.studies.study_file import load_study, parse_study

# (what is replaced in the study, by what, [(key path, fragment of the sentence), ...])
MISTAKES = [
    # unknown keys and names, close ones suggested
    ("seed: 0", "sed: 0", [("sed", "unknown key; did you mean seed?")]),
    ("  hidden: [16]", "  hiden: [16]", [("objective.hiden", "did you mean hidden?")]),
    ("task: digits", "task: digit", [("objective.task", "unknown name 'digit'; did you mean digits?")]),
    ("  task: digits\n", "", [("objective.task", "is missing; name one of digit_images")]),
    (
        "task: digits\n  hidden: [16]\n  train_examples: 200",
        "task: ridge",
        [("method.name", "self_tuning does not fit a task with a smooth lower level instead of a network; use")],
    ),
    (
        "parts: layer",
        "parts: [hidden1]",
        [("regularizers.weight_decay.parts", "must be 'layer' or a mapping from label to layer patterns")],
    ),
    ("[16]", "[1000000000000]", [("objective", "the network cannot be built here: ")]),
    ("weight_decay:", "wieght_decay:", [("regularizers.wieght_decay", "did you mean weight_decay")]),
    ("    rate:", "    rat:", [("regularizers.dropout.rat", "unknown key; did you mean rate?")]),
    ("name: self_tuning", "name: selftuning", [("method.name", "did you mean self_tuning?")]),
    ("warmup_steps: 10", "warmup: 10", [("method.warmup", "did you mean warmup_steps?")]),
    ("warmup_steps: 10", "response: {ranks: 1}", [("method.response.ranks", "did you mean rank?")]),
    ("gpus: 0", "gpu: 0", [("trainers.gpu", "did you mean gpus?")]),
    ("{steps: 60}", "{step: 60}", [("budget.step", "did you mean steps?")]),
    ("validation_loss", "validation_los", [("metric", "did you mean validation_loss")]),
    ("{start: 0.1}", "{strat: 0.1, domain: unit}", [("regularizers.dropout.rate.strat", "did you mean start?")]),
    # missing sections
    ("study: tiny\n", "", [("study", "is missing")]),
    ("budget: {steps: 60}\n", "", [("budget", "is missing")]),
    # wrong types
    ("study: tiny", "study: [tiny]", [("study", "must be a text")]),
    ("study: tiny", "study: a/b", [("study", "because it names a folder")]),
    ("[16]", "sixteen", [("objective.hidden", "must be a list, got 'sixteen'")]),
    ("[16]", "[16, x]", [("objective.hidden.1", "must be a whole number, got 'x'")]),
    ("[16]", "[0]", [("objective.hidden", "at least one unit")]),
    ("warmup_steps: 10", "warmup_steps: 1.5", [("method.warmup_steps", "must be a whole number, got 1.5")]),
    ("warmup_steps: 10", "tune_scale: 1", [("method.tune_scale", "must be true or false, got 1")]),
    (
        "warmup_steps: 10",
        "response: {rank: many}",
        [("method.response.rank", "must be a whole number or 'auto', got 'many'")],
    ),
    (
        "warmup_steps: 10",
        "warmup_steps: 10\n  response: {rank: 4}",
        [("method.response.rank", "or at most 3, the number of tuned")],
    ),
    ("warmup_steps: 10", "response: 3", [("method.response", "must be a mapping of settings, got 3")]),
    ("warmup_steps: 10", "optimizer: adm", [("method.optimizer", "did you mean adam?")]),
    ("seed: 0", "seed: zero", [("seed", "must be a whole number, got 'zero'")]),
    ("seed: 0", "seed: -1", [("seed", "must be at least 0")]),
    ("seed: 0", "seed: true", [("seed", "must be a whole number, got true")]),
    ("metric: validation_loss", "metric: 3", [("metric", "must be a text, got 3")]),
    ("number: 1", "number: 0", [("trainers.number", "must be at least 1, got 0")]),
    ("cpus: 1", "cpus: 0", [("trainers.cpus", "must be at least 0.0001")]),
    ("gpus: 0", "gpus: -1", [("trainers.gpus", "must be 0, or at least 0.0001")]),
    ("{number: 1, cpus: 1, gpus: 0}", "3", [("trainers", "must be a mapping of settings")]),
    ("{steps: 60}", "{steps: 60, seconds: 1}", [("budget", "give either steps or seconds")]),
    ("{steps: 60}", "{steps: 0}", [("budget.steps", "must be at least 1")]),
    ("{steps: 60}", "{seconds: .inf}", [("budget.seconds", "must be a finite number, got inf")]),
    # values of hyperparameters
    ("{start: 0.1}", "0.96", [("regularizers.dropout.rate", "must be a number in [0, 0.95], got 0.96")]),
    ("{start: 0.1}", "{start: 1}", [("regularizers.dropout.rate.start", "[0, 0.95], got 1")]),
    ("{start: 0.1}", "{start: 0}", [("regularizers.dropout.rate.start", "must lie inside the bounds")]),
    ("{start: 0.1}", "{start: .nan}", [("regularizers.dropout.rate.start", "must be a finite number, got nan")]),
    ("{start: 0.1}", "{start: [0.1]}", [("regularizers.dropout.rate.start", "got [0.1]")]),
    ("{start: 0.1}", "'0.1'", [("regularizers.dropout.rate", "got '0.1'")]),
    ("{start: 0.1}", "", [("regularizers.dropout.rate", "has no value")]),
    ("{start: 0.1}", "{hidden: 0.1}", [("regularizers.dropout.rate", "has no parts here")]),
    (
        "{start: 1e-4}",
        "{start: {hidden1: 1e-4}}",
        [("regularizers.weight_decay.strength.start", "no value for part 'output'")],
    ),
    (
        "{start: 1e-4}",
        "{hidden1: 1e-4, outptu: 1e-4}",
        [("regularizers.weight_decay.strength", "unknown part 'outptu'; the parts are hidden1, output")],
    ),
    ("{start: 1e-4}", "{start: 0}", [("regularizers.weight_decay.strength.start", "must lie inside the bounds")]),
    # domains
    (
        "{start: 0.1}",
        "{start: 0.1, domain: unti}",
        [("regularizers.dropout.rate.domain", "unknown domain 'unti'; did you mean unit?")],
    ),
    (
        "{start: 0.1}",
        "{start: 0.1, domain: {interval: [0, 1]}}",
        [("regularizers.dropout.rate.domain", "must stay within what is allowed: a number in [0, 0.95]")],
    ),
    (
        "{start: 0.1}",
        "{start: 0.1, domain: {interval: [0.5, 0.2]}}",
        [("regularizers.dropout.rate.domain.interval", "low < high")],
    ),
    (
        "{start: 0.1}",
        "{start: 0.1, domain: {interval: 0.5}}",
        [("regularizers.dropout.rate.domain.interval", "two numbers [low, high]")],
    ),
    (
        "{start: 0.1}",
        "{start: 0.6, domain: {interval: [0, 0.5]}}",
        [("regularizers.dropout.rate.start", "must be a number in [0, 0.5], got 0.6")],
    ),
    ("{start: 0.1}", "{domain: 3}", [("regularizers.dropout.rate.domain", "must name one domain")]),
    # regularizers and objective
    ("parts: layer", "parts: {a: [hiden*]}", [("regularizers.weight_decay.parts.a", "no layer matches")]),
    ("parts: layer", "parts: {a: hidden1}", [("regularizers.weight_decay.parts.a", "must be a list")]),
    ("parts: layer", "parts: layers", [("regularizers.weight_decay.parts", "must be 'layer' or a mapping")]),
    ("  dropout:\n    rate: {start: 0.1}", "  dropout: 0.5", [("regularizers.dropout", "a mapping of settings")]),
    ("    rate: {start: 0.1}", "    rate: 0.1\n    rate: 0.2", [("line 9", "'rate' is there twice")]),
    ("  weight_decay:", "  dropout:", [("line 9", "'dropout' is there twice")]),
    (
        "train_examples: 200",
        "train_examples: 50",
        [("objective.batch_size", "50 examples, fewer than a batch of 64")],
    ),
    ("train_examples: 200", "train_examples: 1797", [("objective.train_examples", "every split needs at least")]),
    # the study as a whole
    ("warmup_steps: 10", "warmup_steps: 60", [("method.warmup_steps", "must be below the budget of 60")]),
    ("warmup_steps: 10", "scale: 9", [("method.scale", "must be between 0.01 and 3, got 9")]),
    (
        "warmup_steps: 10",
        "response: {joint: true}",
        [("method.response.linearize", "needs a centred response")],
    ),
    # several at once, one line each
    (
        "warmup_steps: 10",
        "scale: x\n  learning_rate: [1]",
        [("method.learning_rate", "must be a number, got [1]"), ("method.scale", "must be a number, got 'x'")],
    ),
    ("seed: 0\nmetric", "seed: x\nmetrc", [("metrc", "did you mean metric?"), ("seed", "must be a whole number")]),
]


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES, ids=[row[1] or row[0] for row in MISTAKES])
def test_mistakes(study_file, capsys, old, new, expected):
    text = study_file.read_text()
    assert text.count(old) == 1
    study_file.write_text(text.replace(old, new))
    assert main(["run", "tiny.yaml", "--local", "--no-mlflow"]) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == len(expected)
    for line, (key, fragment) in zip(lines, expected, strict=True):
        assert line.startswith(f"tiny.yaml: {key}: ")
        assert fragment in line
    assert [path.name for path in study_file.parent.iterdir()] == ["tiny.yaml"]


def test_nothing_tuned(study_text):
    text = study_text.replace("{start: 0.1}", "0.1").replace("{start: 1e-4}", "1e-4")
    with pytest.raises(Mistakes, match=r"^regularizers: nothing is tuned"):
        parse_study(text)


def test_needs_that_the_objective_does_not_provide(study_text, monkeypatch):
    from selftune.lower_level.objective import tasks

    monkeypatch.setattr(tasks["digits"], "provides", frozenset({"parameters"}))
    with pytest.raises(Mistakes, match=r"regularizers\.label_smoothing: .* needs .* targets, which Digits does"):
        parse_study(study_text.replace("  dropout:\n    rate:", "  label_smoothing:\n    epsilon:"))


def test_gpus_without_cuda(study_file, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    study_file.write_text(study_file.read_text().replace("gpus: 0", "gpus: 1"))
    for command in (["check", "tiny.yaml"], ["run", "tiny.yaml"], ["run", "tiny.yaml", "--local"]):
        assert main(command) == 2
        assert "tiny.yaml: trainers.gpus: asks for 1 GPU per trainer, but" in capsys.readouterr().err


def test_more_trainers_than_this_machine_has_room_for(study_file, capsys, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    text = study_file.read_text()
    study_file.write_text(text.replace("{number: 1, cpus: 1,", "{number: 2, cpus: 2,"))
    for command in (["check", "tiny.yaml"], ["run", "tiny.yaml"]):
        assert main(command) == 2
        assert capsys.readouterr().err == (
            "tiny.yaml: trainers: 2 trainers with 2 cpus each do not fit on this machine's 3 cpus;"
            " lower number or cpus (0.5 shares one), use --local, or set RAY_ADDRESS to a larger cluster\n"
        )
    assert [path.name for path in study_file.parent.iterdir()] == ["tiny.yaml"]
    for fitting in ("{number: 3, cpus: 1,", "{number: 6, cpus: 0.5,"):
        study_file.write_text(text.replace("{number: 1, cpus: 1,", fitting))
        check_room(load_study(study_file))


def test_a_study_is_built(study_file):
    study = load_study(study_file)
    assert study.space.names == (
        "dropout.rate",
        "weight_decay.strength[hidden1]",
        "weight_decay.strength[output]",
    )
    assert study.mode == "min"
    method = study.strategy.method()
    assert isinstance(method, SelfTuning)
    assert method.settings.warmup_steps == 10
    trainer = study.strategy.trainers()(0)
    assert trainer.space == study.space
    assert study.text == study_file.read_text()


def test_seed_and_steps_replace_what_the_file_says(study_file):
    study = load_study(study_file, seed=7, steps=90)
    assert (study.seed, study.budget) == (7, Budget(steps=90))
    again = parse_study(study.text)  # what the output folder keeps is the study that runs
    assert (again.seed, again.budget) == (7, Budget(steps=90))
    assert load_study(study_file, seed=0, steps=60).text == study_file.read_text()


def test_patience_stays_where_steps_are_replaced(study_text):
    text = study_text.replace("{steps: 60}", "{steps: 60, patience: 7}")
    assert parse_study(text, steps=30).budget == Budget(steps=30, patience=7)


def test_tuned_from_the_default(study_text):
    study = parse_study(study_text.replace("{start: 0.1}", "tune"))
    assert "dropout.rate" in study.space.names


def test_integers_stay_integers():
    from selftune.hyperparameters import Hyperparameter

    declared = Hyperparameter("k", Integer(1, 9), 3)
    assert parse_value(declared, {"start": 3, "domain": {"integer": [2, 5]}}).domain == Integer(2, 5)
    with pytest.raises(ValueError, match="only whole numbers"):
        parse_value(declared, {"domain": {"interval": [2, 5]}})


def test_infinite_bounds_are_allowed_where_the_hyperparameter_has_none():
    from selftune.hyperparameters import Hyperparameter

    declared = Hyperparameter("bias", Interval(), 0.0)
    domain = parse_value(declared, {"domain": {"interval": [float("-inf"), 3]}}).domain
    assert domain == Interval(float("-inf"), 3.0)
