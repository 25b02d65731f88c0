"""The gallery is whole: a section and a small picture for every packaged study, from runs of `selftune run`."""

import re

import gallery
import pytest

from selftune.cli import main
from selftune.studies.packaged import packaged_studies

STUDIES = sorted(packaged_studies())
KILOBYTE = 1024


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_its_section_and_a_small_picture(name):
    page = gallery.PAGE.read_text(encoding="utf-8")
    assert f"\n## {name}\n" in page, "run `make gallery`"
    assert f"](gallery/{name}.png)" in page
    assert (gallery.PICTURES / f"{name}.png").stat().st_size < 60 * KILOBYTE


def test_the_pictures_are_of_studies_and_small_together():
    pictures = list(gallery.PICTURES.iterdir())
    assert sorted(path.stem for path in pictures) == STUDIES
    assert sum(path.stat().st_size for path in pictures) < 2 * KILOBYTE**2


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs" / "ridge-0"
    assert main(["run", "ridge", "--local", "--no-mlflow", "--seed", "0", "--output", str(folder)]) == 0
    return tmp_path / "runs"


def test_the_page_is_made_of_what_runs_leave_behind(runs, tmp_path):
    (run,) = gallery.finished("ridge", runs)
    gallery.draw([run], tmp_path / "ridge.png")
    assert (tmp_path / "ridge.png").read_bytes().startswith(b"\x89PNG")
    page = gallery.page({"ridge": [run]}, packaged_studies())
    tuned, held = (run.summary[side]["test_loss"] for side in ("tuned", "fixed"))
    assert tuned < held
    assert f"| [ridge](#ridge) | test loss | **{tuned:.4f}** | {held:.4f} |" in page
    assert re.search(rf"^\| test loss \| {tuned:.4f} \| {held:.4f} \| 1 of 1 \|$", page, re.MULTILINE)
    assert "seed 0" in page


def test_a_run_that_has_not_ended_is_not_shown(runs):
    summary = runs / "ridge-0" / "summary.json"
    summary.write_text(summary.read_text().replace('"finished"', '"failed"'))
    assert gallery.finished("ridge", runs) == []
    assert gallery.finished("digits", runs) == []


def test_measures_that_are_better_small():
    assert gallery.is_better("test_loss", 0.1, 0.2)
    assert not gallery.is_better("test_accuracy", 0.1, 0.2)
