"""The page of a sweep: whole, escaped, the same bytes, and honest where there is little to show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_trials import DROPOUT, RATE, SPACE, records, settings, tell

from selftune.hyperparameters.distribution import Choices, Uniform
from selftune.search import SearchSpace, Swept, TrialRecord
from selftune.tracking.summary import Summary
from selftune.tracking.sweep_report import write_sweep_report
from selftune.tracking.trials_file import TrialsWriter

HEARD = records()


class Page(HTMLParser):
    """What a browser would load, and the text it would show."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attributes if name == "id"]
        self.loads += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page(folder: Path, heard: list[TrialRecord], summary: Summary | None = None, **changed: object) -> Page:
    space = changed.pop("space", SPACE)
    tell(TrialsWriter(folder, space, settings(**changed)), heard)
    return Page(write_sweep_report(folder, summary))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    summary: Summary = {"status": "finished", "name": "digits", "measures": {"test_loss": 0.1521}}
    page(folder, HEARD, summary)
    return folder


def test_one_page_holds_everything_and_loads_nothing(finished: Path) -> None:
    shown = Page(finished / "report.html")
    assert all(load.startswith("#") for load in shown.loads)
    assert not re.search(r"@import|url\((?!#)|<script|<link", shown.source)
    assert len(shown.ids) == len(set(shown.ids))
    for said in (
        "digits",
        "finished",
        "24 trials (",
        "of 6 swept keys, drawn by the searcher tpe under the scheduler asha, with 10,600 training steps",
        "The smallest validation loss, 0.1315, is that of trial 14 at its training step 400.",
        "test loss",
        "0.1521",
        "How far what the best 7 of 22 trials drew",
        "refused: objective.hidden: is too wide for this table",
        "failed: the loss is NaN at training step 113",
    ):
        assert said in " ".join(shown.text.split())
    assert "not ended" not in shown.text


def test_plots_are_also_files_of_their_own(finished: Path) -> None:
    names = {path.stem for path in (finished / "plots").iterdir()}
    assert {"best-so-far", "parallel-coordinates", "learning-curves"} < names
    assert sum(name.startswith("slice") for name in names) == len(SPACE)
    for path in (finished / "plots").iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_same_folder_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    summary: Summary = {"status": "finished", "name": "digits", "measures": {"test_loss": 0.1521}}
    page(tmp_path, HEARD, summary)
    assert (tmp_path / "report.html").read_bytes() == (finished / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ([], "No trial has reported validation_loss yet."),
        (HEARD[:1], "No trial has reported validation_loss yet."),
        ([TrialRecord(0, {RATE: 0.1}, "refused", message="no")], "1 trial (1 refused)"),
        (HEARD[:40], "validation_loss to say what was important"),
    ],
)
def test_a_sweep_that_has_not_ended_has_a_page(tmp_path: Path, heard: list[TrialRecord], said: str) -> None:
    shown = page(tmp_path, heard)
    assert "This sweep has not ended, or it was killed" in shown.text
    assert said in " ".join(shown.text.split())


def test_a_page_of_many_trials_stays_small_and_shows_each(tmp_path: Path) -> None:
    sizes = []
    for number in (40, 80):
        (tmp_path / str(number)).mkdir()
        shown = page(tmp_path / str(number), records(number), trials=number)
        sizes.append(len(re.sub(r"<table.*?</table>", "", shown.source, flags=re.DOTALL)))
        svg = next((tmp_path / str(number) / "plots").glob("slice-*dropout*")).read_text()
        met = number - sum(trial % 12 == 7 for trial in range(number))  # the others were refused
        assert svg.count("<use ") > met
    assert (sizes[1] - sizes[0]) / 40 < 1300, "bytes per trial"


def test_one_key_and_equal_values(tmp_path: Path) -> None:
    space = SearchSpace((Swept(DROPOUT, Uniform(0.0, 0.8)),))
    measures = {"validation_loss": 0.5}
    first = TrialRecord(0, {}, training_step=9, measures=measures, best=0.5, best_step=9)
    heard = [replace(first, number=number, values={DROPOUT: number / 20}) for number in range(12)]
    shown = page(tmp_path, heard, space=space)
    assert "svg" in shown.tags


def test_values_that_left_their_range(tmp_path: Path) -> None:
    """As population-based training moves them."""
    heard = [replace(one, values=dict(one.values) | {RATE: 1.2, DROPOUT: 0.96}) for one in HEARD]
    assert "1.2" in page(tmp_path, heard).text


def test_everything_is_escaped(tmp_path: Path) -> None:
    key, option = "objective.<script>alert(1)</script>", "<script>$x_1$"
    space = SearchSpace((Swept(key, Choices((option, "b"))),))
    heard = [
        TrialRecord(0, {key: option}, "finished", 10, measures={"validation_loss": 0.5}, best=0.5, best_step=10),
        TrialRecord(1, {key: "b"}, "failed", message="<script>lost</script>"),
    ]
    (tmp_path / "study.yaml").write_text("study: <script>name</script>\n")
    shown = page(tmp_path, heard, {"status": "failed", "message": "<script>why</script>"}, space=space)
    assert "script" not in shown.tags
    assert "This sweep failed." in shown.text
