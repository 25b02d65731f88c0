import pickle

from selftune.schedulers.snapshots import Snapshot


def test_a_file_that_is_replaced_is_never_there_in_part(tmp_path):
    written, kept = tmp_path / "written", tmp_path / "kept"
    written.mkdir()
    (written / "state.pkl").write_bytes(b"old" * 1000)
    Snapshot(written).put(kept)
    with (kept / "state.pkl").open("rb") as reader:
        (written / "state.pkl").write_bytes(b"new" * 1000)
        Snapshot(written).put(kept)
        assert reader.read() == b"old" * 1000, "who has opened it reads on in the old one"
    assert (kept / "state.pkl").read_bytes() == b"new" * 1000
    assert [path.name for path in kept.iterdir()] == ["state.pkl"]


def test_files_of_a_moment_are_put_together_although_they_change_meanwhile(tmp_path):
    written, kept = tmp_path / "written", tmp_path / "kept"
    (written / "trial-0").mkdir(parents=True)
    for name in ("trials.json", "searcher.pkl", "trial-0/log"):
        (written / name).write_text("1")
    snapshot = Snapshot(written)
    for name in ("trials.json", "searcher.pkl"):
        (written / name).write_text("2, half of i")
    snapshot.put(kept)
    assert [(kept / name).read_text() for name in ("trials.json", "searcher.pkl", "trial-0/log")] == ["1"] * 3


def test_a_snapshot_does_not_hold_the_one_before(tmp_path):
    """Tune pickles what copied the last one."""
    (tmp_path / "state.json").write_bytes(bytes(10000))
    assert len(pickle.dumps(Snapshot(tmp_path))) < 1000


def test_what_is_in_the_folder_already_stays(tmp_path):
    written, kept = tmp_path / "written", tmp_path / "kept"
    for path in (written / "trial-0" / "log", kept / "trial-0" / "checkpoint"):
        path.parent.mkdir(parents=True)
        path.write_text(path.name)
    Snapshot(written).put(kept)
    assert sorted(path.name for path in (kept / "trial-0").iterdir()) == ["checkpoint", "log"]
