import pytest

STUDY = """\
study: tiny
objective:
  task: digits
  hidden: [16]
  train_examples: 200
regularizers:
  dropout:
    rate: {start: 0.1}
  weight_decay:
    parts: layer
    strength: {start: 1e-4}
method:
  name: self_tuning
  warmup_steps: 10
  checkpoint_every: 2
trainers: {number: 1, cpus: 1, gpus: 0}
budget: {steps: 60}
seed: 0
metric: validation_loss
"""


@pytest.fixture(scope="session")
def study_text():
    return STUDY


@pytest.fixture
def study_file(tmp_path, monkeypatch):
    """The file of a study of 60 training steps, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "tiny.yaml"
    file.write_text(STUDY, encoding="utf-8")
    return file
