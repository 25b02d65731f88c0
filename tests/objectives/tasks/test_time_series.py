import pytest
import torch
from selftune.objectives.data.cylinder_bell_funnel import cylinder_bell_funnel
from selftune.objectives.tasks.time_series import TimeSeries

from selftune.errors import SettingError


def test_signals_are_what_they_are_called():
    signals, labels = cylinder_bell_funnel(300, noise=0.0)
    assert labels.bincount().tolist() == [100, 100, 100]
    assert torch.equal(signals, cylinder_bell_funnel(300, noise=0.0)[0])
    assert (signals[:, :16] == 0).all()
    for signal, label in zip(signals, labels.tolist(), strict=True):
        inside = signal.nonzero().flatten()
        first, last = signal[inside[1]], signal[inside[-2]]
        assert (first.abs() < last.abs(), first == last, first.abs() > last.abs())[[1, 0, 2][label]]


def test_noise_adds_up():
    clean, noisy = (cylinder_bell_funnel(300, noise)[0] for noise in (0.0, 2.0))
    assert float((noisy - clean).std()) == pytest.approx(2.0, abs=0.05)


@pytest.fixture
def waves(tmp_path):
    file = tmp_path / "waves.csv"
    rows = [",".join([*(f"{(n % 2) * place + 0.01 * n}" for place in range(12)), "ab"[n % 2]]) for n in range(200)]
    file.write_text(",".join([*(f"t{place}" for place in range(12)), "kind"]) + "\n" + "\n".join(rows))
    return file


def test_signals_of_a_file(waves):
    task = TimeSeries(str(waves), target="kind", channels=4)
    train = task.splits()["train"]["inputs"]
    assert train.shape == (120, 1, 12)
    assert abs(float(train.mean())) < 1e-5
    assert task.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "cylinder"}, "dataset: cylinder is no file"),
        ({"target": "x"}, "target: is for a file"),
        ({"noise": -1.0}, "noise: must be a number of at least 0"),
        ({"channels": 0}, "channels: must be at least 1"),
        ({"examples": 3}, "split"),
        ({"batch_size": 600}, "batch_size: the train split has 540 examples"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        TimeSeries(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({}, "target: is missing"), ({"target": "kind", "noise": 1.0}, "noise: is for cylinder_bell_funnel alone")],
)
def test_wrong_settings_of_files_are_refused(waves, settings, message):
    with pytest.raises(SettingError, match=message):
        TimeSeries(str(waves), **settings)


@pytest.mark.parametrize(("field", "what"), [("", "'t0' lacks values"), ("no", "'t0' holds no numbers")])
def test_signals_with_gaps_or_texts_are_refused(waves, field, what):
    lines = waves.read_text().splitlines()
    lines[5] = field + "," + lines[5].partition(",")[2]
    waves.write_text("\n".join(lines))
    with pytest.raises(SettingError, match=f"^dataset: .*{what}"):
        TimeSeries(str(waves), target="kind")
