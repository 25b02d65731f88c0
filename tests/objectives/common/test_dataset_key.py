"""What is said where a task's ``dataset`` is not there."""

import pytest

from selftune.errors import SettingError
from selftune.lower_level.objective import tasks


@pytest.mark.parametrize(
    ("task", "settings"),
    [("images", {}), ("table", {"target": "y"}), ("time_series", {"target": "y"}), ("language_model", {})],
)
def test_a_path_is_named_in_full_with_the_command_and_a_word_with_its_neighbours(task, settings, tmp_path):
    file = tmp_path / "none.parquet"
    option = " --target y" if settings else ""
    making = f"make it with `selftune data import SOURCE --output {file}{option}`, where SOURCE is a "
    with pytest.raises(SettingError) as refusal:
        tasks[task](dataset=str(file), **settings)
    assert str(refusal.value).startswith(f"dataset: there is no file {file}; {making}")
    with pytest.raises(SettingError, match="nothing is no file, and no data that come along; known are"):
        tasks[task](dataset="nothing", **settings)
