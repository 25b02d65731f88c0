import pytest
from selftune.objectives.space_files import families, priors
from selftune.search_spaces import space, space_names

from selftune.errors import SettingError
from selftune.hyperparameters import distribution_of


@pytest.mark.parametrize("family", families())
def test_a_space_holds_the_priors_of_a_family_number_for_number(family):
    read = {key: distribution_of(given) for key, given in space(family).items()}
    assert read == priors(family)


def test_spaces_are_the_families():
    assert space_names() == list(families())


def test_an_unknown_space_is_refused_with_the_name_that_was_meant():
    with pytest.raises(SettingError, match="unknown search space 'supervison'; did you mean supervision"):
        space("supervison")
