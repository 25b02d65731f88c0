"""What can be looked up: everything registered, and the page that is made of it."""

from pathlib import Path

import pytest

from selftune.cli import main
from selftune.regularization.step_quantities import quantities
from selftune.studies.catalogue import described, entries, find, fragment, reference_page
from selftune.studies.listing import GROUPS
from selftune.studies.mistakes import UserError
from selftune.studies.yaml_file import parse_yaml

PAGE = Path(__file__).parents[2] / "docs" / "catalogue.md"


def test_the_reference_page_is_what_the_code_says():
    assert PAGE.read_text(encoding="utf-8") == reference_page(), "run `make docs`"


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: f"{entry.group}-{entry.name}")
def test_every_entry_says_what_it_does_and_how_a_study_uses_it(entry):
    assert len(entry.sentence) > 20
    assert entry.sentence[0].isupper() or not entry.sentence[0].isalpha() or entry.sentence.split()[0].islower()
    assert set(entry.needs) | set(entry.provides) <= set(quantities.names())
    if entry.group in ("regularizers", "diagnostics"):
        assert entry.reference
        assert entry.family
    assert all(line == line.rstrip() for line in described(entry))
    if fragment(entry):
        (section,) = parse_yaml(fragment(entry))
        assert section in ("regularizers", "diagnostics", "objective", "method")


def test_names_that_are_not_there_suggest_others():
    with pytest.raises(UserError, match=r"nothing is called 'mixp'; did you mean mixup"):
        find("mixp")


def test_show_prints_an_entry(capsys):
    assert main(["show", "weight_decay"]) == 0
    shown = capsys.readouterr().out
    for fragment_ in (
        "weight_decay (penalty, supervision)",
        "Reference: ",
        "strength = 0.0005",
        "auto is Power",
        "parameters: ",
    ):
        assert fragment_ in shown


def test_groups_are_all_there():
    assert {entry.group for entry in entries()} == set(GROUPS)
