import pytest

from selftune.errors import SettingError
from selftune.schedulers import OrderTrainable, SchedulerError
from selftune.schedulers.sweep.snapshot_folder import check_private, goes_on, has_snapshot, restored


@pytest.fixture
def place(tmp_path):
    """Tune's folder as a run leaves it."""
    place = tmp_path / "ray"
    place.mkdir()
    (place / "tuner.pkl").touch()
    (place / "experiment_state-2026-01-01_00-00-00.json").write_text("{}")
    return place


def test_a_snapshot_is_found(place):
    assert has_snapshot(place)


def test_a_run_killed_before_or_while_it_was_saved_has_no_snapshot(place):
    (place / "experiment_state-2026-01-01_00-00-09.json").write_text('{"trial_data": [')
    assert not has_snapshot(place)
    for state in place.glob("*.json"):
        state.unlink()
    assert not has_snapshot(place)
    assert not has_snapshot(place / "nowhere")


def test_a_folder_with_another_sweep_is_refused(place):
    with pytest.raises(SchedulerError, match="holds a run already: resume it, or choose another folder"):
        goes_on(place, resume=False)


@pytest.mark.parametrize("which", ["", "ray", "ray/tuner.pkl"])
def test_a_folder_that_others_may_write_is_not_resumed(tmp_path, which):
    folder = tmp_path / "out"
    (folder / "ray").mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)
    (folder / "ray" / "tuner.pkl").write_bytes(b"")
    (folder / "ray" / "tuner.pkl").chmod(0o644)
    check_private(folder / "ray")
    path = folder / which
    path.chmod(path.stat().st_mode | 0o002)
    with pytest.raises(SettingError, match="others may write here"):
        check_private(folder / "ray")


@pytest.mark.parametrize("content", [b"", b"cselftune.schedulers\nNoSuchClass\n.", b"cno_such_package\nThing\n."])
def test_a_snapshot_that_this_version_cannot_read_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "tuner.pkl").write_bytes(content)
    (tmp_path / "trainable.pkl").write_bytes(b"")
    with pytest.raises(SchedulerError, match="written by another version"):
        restored(tmp_path, OrderTrainable)
