from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from selftune.methods.reports import Diverged
from selftune.tracking import plots
from selftune.tracking.plots import MAXIMUM_PANELS, grouped
from selftune.tracking.report import write_report
from selftune.tracking.summary import read_summary, write_summary
from selftune.tracking.trajectory import read_trajectory

SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """What a browser would load, and what it would take for elements."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.loads.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_one_page_holds_everything_and_loads_nothing(study: Path) -> None:
    (study / "conversion.txt").write_text("hidden.0  Linear(64, 32)  converted, rank 8\n")
    page = Page(write_report(study))
    assert page.source.startswith("<!DOCTYPE html>")
    assert all(load.startswith("#") for load in page.loads)
    assert not re.search(r"@import|url\((?!#)|<script|<link", page.source)
    assert len(page.ids) == len(set(page.ids))
    for said in (
        "digits",
        "finished",
        "6 hyperparameters tuned in 40 hyper-steps over 400 training steps (10.0 s).",
        "27.5% lower than that of the same network",
        "weight_decay.strength[layers.0]",
        "start values held",
        "batch_size: 64",
        "hidden.0  Linear(64, 32)  converted, rank 8",
        "torch ",
    ):
        assert said in page.text
    assert "not ended" not in page.text


def test_plots_are_also_files_of_their_own(study: Path) -> None:
    write_report(study)
    plots = sorted(path.name for path in (study / "plots").iterdir())
    assert {"losses.svg", "hypergradient-norm.svg", "schedule-01-dropout.rate_input.svg"} <= set(plots)
    assert sum(name.startswith("schedule") for name in plots) == 6
    for name in plots:
        assert ElementTree.parse(study / "plots" / name).getroot().tag == f"{SVG}svg"
    (study / "plots" / "schedule-99-gone.svg").write_text("<svg/>")
    write_report(study)
    assert sorted(path.name for path in (study / "plots").iterdir()) == plots


def test_the_same_folder_gives_the_same_bytes(study: Path) -> None:
    first = write_report(study).read_bytes()
    plot = (study / "plots" / "losses.svg").read_bytes()
    assert write_report(study).read_bytes() == first
    assert (study / "plots" / "losses.svg").read_bytes() == plot


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_killed_study_has_a_report(tmp_path: Path, fabricate: Any, steps: int) -> None:
    fabricate.fill(tmp_path, range(steps))
    page = Page(write_report(tmp_path))
    assert "This study has not ended, or it was killed" in page.text
    assert f"tuned in {steps} hyper-step{'s' * (steps != 1)} over" in page.text
    assert ("svg" in page.tags) == (steps > 0)


def test_a_failed_study_says_why(tmp_path: Path, fabricate: Any) -> None:
    writer = fabricate.fill(tmp_path, range(3))
    writer.reported(1, Diverged(number=3, message="loss is NaN at training step 31"))
    writer.ended()
    write_summary(tmp_path, {"status": "failed", "message": "No trainer is left."})
    page = Page(write_report(tmp_path))
    assert "This study failed." in page.text
    assert "No trainer is left." in page.text
    assert "stopped: loss is NaN at training step 31" in page.text


def test_the_summary_may_come_before_its_file(study: Path) -> None:
    summary = read_summary(study)
    (study / "summary.json").unlink()
    assert "finished" in Page(write_report(study, summary)).text
    assert not (study / "summary.json").exists()


def test_everything_is_escaped(tmp_path: Path, fabricate: Any) -> None:
    names = ("a<script>alert(1)</script>.rate[x&y]", "b<script>.$x_1$", 'c"onload="x.rate')
    writer = fabricate.fill(tmp_path, range(3), names)
    writer.lost(0, "<script>lost</script>")
    fabricate.finish(tmp_path, writer, names, steps=3)
    (tmp_path / "study.yaml").write_text("name: <script>name</script>\n")
    (tmp_path / "conversion.txt").write_text("<script>conversion</script>\n")
    page = Page(write_report(tmp_path))
    assert "script" not in page.tags
    assert "<script>name</script>" in page.text
    assert "b<script>.$x_1$" in page.text
    for plot in (tmp_path / "plots").iterdir():
        ElementTree.parse(plot)


def test_thousands_of_hyperparameters_are_shown_in_groups(tmp_path: Path, fabricate: Any) -> None:
    names = [f"weight_decay.strength[{i}]" for i in range(2900)] + [f"dropout.rate[{i}]" for i in range(100)]
    fabricate.fill(tmp_path, range(10), names).ended()
    page = Page(write_report(tmp_path))
    assert "weight_decay.strength (2,900)" in page.text
    assert "median of 100" in page.text
    assert sum(path.name.startswith("schedule") for path in (tmp_path / "plots").iterdir()) == 2
    assert page.tags.count("tr") >= 3000  # every one of them is in the table
    assert len(page.source) < 3e6


@pytest.mark.parametrize(
    "names",
    [
        [f"a.b[{i}]" for i in range(MAXIMUM_PANELS)],
        [f"r{i % 5}.strength[{i}]" for i in range(100)],
        [f"r{i % 5}.name{i}" for i in range(100)],
        [f"r{i}.strength" for i in range(100)],
    ],
)
def test_groups_hold_every_hyperparameter_once(names: list[str]) -> None:
    groups = grouped(names)
    assert len(groups) <= MAXIMUM_PANELS
    assert sorted(index for group in groups.values() for index in group) == list(range(len(names)))


def test_losses_that_are_not_finite_leave_gaps(tmp_path: Path, fabricate: Any) -> None:
    writer = fabricate.fill(tmp_path, range(3))
    step = fabricate.hyper_step(3, fabricate.names)
    for number, loss in [(3, float("nan")), (4, float("inf"))]:
        nothing = torch.full_like(step.hyperparameters, loss)
        writer.hyper_step(type(step)(number, 10 * number, 1.0, loss, loss, nothing, nothing, nothing))
    page = Page(write_report(tmp_path))
    assert "lowest validation loss" in page.text


def test_the_headline_says_over_how_many_networks_and_how_far_they_differ(study: Path) -> None:
    summary = read_summary(study)
    summary["tuned"]["test_loss"], summary["fixed"]["test_loss"] = 0.2, 0.25
    one = {**summary, "networks": {"tuned": 1, "fixed": 1}, "spread": {"tuned": {}, "fixed": {}}}
    text = Page(write_report(study, one)).text
    assert "over 400 training steps of 1 network" in text
    assert "Both are of one network from one seed" in text
    assert "One network each, from one seed." in text
    spread = {"tuned": {"test_loss": 0.0123}, "fixed": {"test_loss": 0.0456}}
    three = {**summary, "networks": {"tuned": 3, "fixed": 2}, "spread": spread}
    text = Page(write_report(study, three)).text
    assert "over 400 training steps of 3 networks" in text
    assert "The mean test loss of 3 tuned networks is 0.2 ± 0.012, 20.0% lower than" in text
    assert "with the start values held fixed (0.25 ± 0.046); ± is the standard deviation from network" in text
    assert "Means of 3 and 2 networks, ± their standard deviation." in text


def test_without_a_comparison_there_are_no_columns_for_it(study: Path) -> None:
    summary = {name: value for name, value in read_summary(study).items() if name != "fixed"}
    best = {"metric": "validation_loss", "value": 0.5, "hyper_step": 3, "training_step": 40}
    measured = {"measures": {"test_loss": 0.6}, "networks": 2, "spread": {"test_loss": 0.05}}
    spread = {"tuned": {"test_loss": 0.0123}}
    text = Page(
        write_report(study, {**summary, "networks": {"tuned": 2}, "spread": spread, "best": best | measured})
    ).text
    assert "start values held" not in text
    assert "The mean test loss of 2 tuned networks is 0.171 ± 0.012 (standard deviation)." in text
    assert "with a mean test loss of 0.6 ± 0.05 over 2 networks. It is in best_network.safetensors." in text
    text = Page(write_report(study, {**summary, "networks": {"tuned": 1}})).text
    assert "The tuned network's test loss is 0.171." in text
    assert "One network, from one seed." in text


def test_names_break_where_they_have_joints(study: Path) -> None:
    page = write_report(study).read_text(encoding="utf-8")
    assert "<td>weight_<wbr>decay.<wbr>strength<wbr>[layers.<wbr>0]</td>" in page
    assert "overflow-wrap: anywhere" not in page.split("h1 {")[1].split("\n", 1)[1].split("</style>")[0]


@pytest.mark.parametrize("size", [1.23456e-4, 12345.678])
def test_labels_of_axes_are_not_cut_off(size: float, tmp_path: Path, fabricate: Any) -> None:
    names = ["weight_decay.strength"]
    writer = fabricate.fill(tmp_path, range(0), names=names)
    for number in range(10):
        values = torch.tensor([size * (1 + number / 50)])
        step = replace(fabricate.hyper_step(number, names), training_step=1_000_000 * (number + 1))
        writer.hyper_step(replace(step, hyperparameters=values))
    writer.ended()
    write_report(tmp_path)
    labels = []
    for path in (tmp_path / "plots").glob("*.svg"):
        svg = ElementTree.parse(path).getroot()
        width = float(svg.attrib["viewBox"].split()[2])
        for text in svg.iter(f"{SVG}text"):
            style, label = text.attrib["style"], text.text or ""
            anchor = re.search(r"text-anchor: (middle|end)", style)
            if anchor is None or "rotate(-90" in text.attrib["transform"]:
                continue  # titles and legends start at the left, the name of an axis stands upright
            points = float(re.search(r"font-size: ([\d.]+)px", style).group(1))  # type: ignore[union-attr]
            half = 0.6 * points * len(label) / 2
            middle = float(text.attrib["x"]) - (half if anchor.group(1) == "end" else 0)
            assert half <= middle <= width - half, (path.name, label)
            labels.append(label)
    assert "10,000,000" in labels
    assert max(map(len, labels)) >= 8


def test_wide_figures_come_again_for_a_narrow_screen(study: Path) -> None:
    drawn = [plots.losses(read_trajectory(study)), plots.hypergradient_norm(read_trajectory(study))]
    for plot in drawn:
        sizes = [
            float(ElementTree.fromstring(svg).attrib["viewBox"].split()[2]) for svg in (plot.svg, plot.narrow)
        ]
        assert plot.wide
        assert sizes[1] < 300 < 700 < sizes[0]
    labels = [text.text for text in ElementTree.fromstring(drawn[0].narrow).iter(f"{SVG}text")]
    assert {"training (regularized)", "validation", "loss"} <= set(labels)
    page = write_report(study).read_text(encoding="utf-8")
    assert page.count('<div class="narrow">') == len(drawn)
