import pytest
from selftune.objectives.space_files import families, folder, priors, text

from selftune.regularization.regularizer import regularizers


def test_every_family_of_the_catalogue_has_a_file_and_no_file_is_left_over():
    assert {path.stem for path in folder().glob("*")} == set(families())
    assert set(families()) == {"adaptation", "dynamics", "representation", "structure", "supervision"}


@pytest.mark.parametrize("family", families())
def test_files_are_up_to_date(family):
    written = (folder() / f"{family}.yaml").read_text(encoding="utf-8")
    assert written == text(family), "run `make docs`"


def test_every_entry_with_a_hyperparameter_that_can_be_swept_is_there():
    there = {key.split(".")[1] for family in families() for key in priors(family)}
    swept = {
        name
        for name in regularizers.names()
        if any(h.swept for h in regularizers[name].hyperparameters)
        and regularizers[name].__module__.startswith("selftune.objectives.")
    }
    assert there == swept
