import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from selftune.objectives.tasks.ridge import Ridge
from torch import nn

from selftune import Result, Schedule, SettingError, tune
from selftune.methods import HyperStep
from selftune.studies.best_network import BestNetwork
from selftune.tracking.trajectory import read_trajectory

MEASURES, SPREAD = {"test_loss": 0.25, "test_accuracy": 0.75}, {"test_loss": 0.0125, "test_accuracy": 0.05}
NAMES = ("dropout.rate", "weight_decay.strength[<0>]")


def step(number, values, validation_loss):
    vector = torch.tensor(values)
    return HyperStep(
        number, 10 * (number + 1), 0.5, 1.0, validation_loss, vector, vector, -vector, {}, {"accuracy": 0.5}
    )


def result(shift=0.0, losses=(3.0, 1.0, 2.0)):
    trajectory = [step(number, [0.1 * (number + 1) + shift, 0.01], loss) for number, loss in enumerate(losses)]
    end = dict(zip(NAMES, (0.4 + shift, 0.02), strict=True))
    return Result(end, trajectory, nn.Identity(), MEASURES, networks=3, spread=SPREAD)


def test_the_text_says_start_end_and_best():
    assert repr(result()).splitlines() == [
        "hyperparameter              start   end  best",
        "dropout.rate                  0.1   0.4   0.2",
        "weight_decay.strength[<0>]   0.01  0.02  0.01",
        "best: where validation loss was best, 1 at training step 20",
        "at the end, mean of 3 networks ± standard deviation: test loss 0.25 ± 0.013, test accuracy 0.75 ± 0.05",
    ]


def test_best_is_what_the_metric_says():
    made = result()
    best = BestNetwork(nn.Identity(), {}, {}, 30, 2, "validation_accuracy", 0.9)
    lines = repr(replace(made, best=best)).splitlines()
    assert lines[1].split() == ["dropout.rate", "0.1", "0.4", "0.3"]
    assert lines[3] == "best: where validation accuracy was best, 0.9 at training step 30"


def test_without_a_known_validation_loss_nothing_is_called_best():
    assert "best" not in repr(result(losses=(float("nan"),) * 3))


def test_many_hyperparameters_are_means_of_their_parts():
    values = {f"dropout.rate[{part}]": part / 100 for part in range(50)}
    text = repr(Result(values, (), nn.Identity(), {}))
    assert text.splitlines()[1].split() == ["dropout.rate", "(mean", "of", "50)", "0.245", "0.245"]


def test_the_page_of_a_notebook_has_the_table_and_a_curve_per_row():
    page = result()._repr_html_()
    assert page.count("<svg") == 2
    assert page.count("<polyline") == 2
    assert "weight_decay.strength[&lt;0&gt;]" in page
    assert "<0>" not in page
    for text in (">start<", ">end<", ">best<", ">by training step<", "test accuracy 0.75"):
        assert text in page


def test_the_frame_has_the_columns_of_the_file(tmp_path):
    found = tune(Ridge(), method="implicit", work=100, output=tmp_path)
    frame, file = found.to_pandas(), pd.read_parquet(tmp_path / "trajectory.parquet")
    assert list(frame.columns) == list(file.columns)
    pd.testing.assert_frame_equal(frame, file, check_dtype=False, check_exact=True)
    assert len(frame) == len(found.trajectory) == len(read_trajectory(tmp_path))


def test_the_result_of_a_smooth_problem_counts_upper_steps():
    found = tune(Ridge(), method="implicit", work=100)
    end = found.metrics["validation_loss"]
    before = min(step.validation_loss for step in found.trajectory)
    assert ("at upper step" in repr(found)) == (before < end)
    assert "at upper step" in repr(replace(found, metrics={"validation_loss": before + 1}))
    assert "by upper step" in found._repr_html_()
    assert repr(found).endswith("ended because its budget was spent")


def test_a_figure_has_a_panel_per_hyperparameter_and_a_band_over_runs():
    try:
        figure = result().plot()
        assert [axes.get_title() for axes in figure.axes] == list(NAMES)
        line = figure.axes[0].lines[0]
        np.testing.assert_allclose(line.get_xdata(), [0, 10, 20, 30])
        np.testing.assert_allclose(line.get_ydata(), [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
        together = result().plot(result(shift=0.1), result(shift=0.3))
        middle = together.axes[0].lines[0].get_ydata()
        np.testing.assert_allclose(middle, [0.2, 0.3, 0.4, 0.5], rtol=1e-6)
        (band,) = together.axes[0].collections
        edges = band.get_paths()[0].vertices[:, 1]
        assert edges.min() == pytest.approx(0.1)
        assert edges.max() == pytest.approx(0.7)
        assert [text.get_text() for text in together.axes[0].get_legend().get_texts()] == [
            "range of 3 runs",
            "median",
        ]
    finally:
        pyplot.close("all")


def test_figures_of_different_hyperparameters_are_refused():
    other = Result({"mixup.alpha": 0.1}, (), nn.Identity(), {})
    with pytest.raises(SettingError, match="results of the same hyperparameters"):
        result().plot(other)


def test_a_result_without_hyper_steps_shows_its_schedule():
    schedule = Schedule(("dropout.rate",), np.array([100, 200]), np.array([[0.1], [0.3]]), ((0.0, 1.0),))
    replayed = Result({"dropout.rate": 0.3}, (), nn.Identity(), {}, schedule)
    assert repr(replayed).splitlines()[1].split() == ["dropout.rate", "0.1", "0.3"]
    assert len(replayed.to_pandas()) == 0


@pytest.mark.parametrize(("package", "call"), [("pandas", Result.to_pandas), ("matplotlib", Result.plot)])
def test_what_needs_a_package_says_so(package, call, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingError, match=f"needs the package {package}; install it with pip"):
        call(result())


def test_the_page_on_results_works(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = {}
    try:
        for snippet in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            exec(snippet.replace("steps=600, warmup_steps=200", "steps=20, warmup_steps=10"), names)
    finally:
        pyplot.close("all")
    assert names["result"].networks == 3
    assert len(names["frame"]) == len(names["result"].trajectory) == 2
    assert (tmp_path / "schedules.pdf").exists()
    assert (tmp_path / "runs" / "first" / "summary.json").exists()
