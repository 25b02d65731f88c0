"""A worker that does not reach the driver's folder reads and writes it all the same."""

import json
import os
import pickle
from pathlib import Path

import pyarrow.fs
import pytest
from own_process import python
from ray.exceptions import RayActorError
from ray_fakes import ToyMethod

from selftune.logs import WorkerLog
from selftune.schedulers import served_files, served_folder
from selftune.schedulers.folder_server import FolderServer
from selftune.schedulers.sent_log import SentLog, log_from_here
from selftune.schedulers.served_folder import ServedFolder

CONTENT = bytes(range(256)) * 100


class Asked(ServedFolder):
    """Far from the folder, whose server is in this process."""

    is_here = False

    def ask(self, what, *arguments, **more):
        return getattr(FolderServer(self.folder), what)(*arguments, **more)

    def tell(self, what, *arguments):
        self.ask(what, *arguments)


@pytest.fixture(params=["here", "asked"])
def filesystem(request, tmp_path):
    (tmp_path / ".driver-token").touch()
    kind = ServedFolder if request.param == "here" else Asked
    return pyarrow.fs.PyFileSystem(kind(str(tmp_path), "token", "node"))


@pytest.fixture
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worker") / "checkpoint"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.safetensors").write_bytes(CONTENT)
    (folder / "inner/empty").touch()
    return folder


def test_a_checkpoint_comes_and_goes_whole(filesystem, local, tmp_path, monkeypatch):
    monkeypatch.setattr(served_files, "CHUNK", 1000)  # many parts
    there = tmp_path / "run/checkpoint_000001"
    filesystem.create_dir(str(there), recursive=True)
    pyarrow.fs.copy_files(str(local), str(there), destination_filesystem=filesystem)
    assert (there / "a.safetensors").read_bytes() == CONTENT
    assert sorted(path.name for path in there.rglob("*")) == ["a.safetensors", "empty", "inner"]
    back = local.with_name("back")
    pyarrow.fs.copy_files(str(there), str(back), source_filesystem=filesystem)
    assert (back / "a.safetensors").read_bytes() == CONTENT
    assert (back / "inner/empty").read_bytes() == b""


def test_files_are_listed_moved_and_deleted_as_on_a_disk(filesystem, tmp_path):
    (tmp_path / "folder/inner").mkdir(parents=True)
    (tmp_path / "folder/file").write_bytes(b"12345")
    disk = pyarrow.fs.LocalFileSystem()
    for path in ("folder", "folder/file", "folder/nothing"):
        found, expected = (one.get_file_info(str(tmp_path / path)) for one in (filesystem, disk))
        assert (found.type, found.size, found.mtime_ns) == (expected.type, expected.size, expected.mtime_ns)
    for recursive in (True, False):
        selector = pyarrow.fs.FileSelector(str(tmp_path), recursive=recursive)
        found, expected = (sorted(one.path for one in each.get_file_info(selector)) for each in (filesystem, disk))
        assert found == expected
    with pytest.raises(FileNotFoundError):
        filesystem.get_file_info(pyarrow.fs.FileSelector(str(tmp_path / "nothing")))
    with pytest.raises(FileNotFoundError):
        filesystem.open_input_file(str(tmp_path / "nothing"))
    filesystem.move(str(tmp_path / "folder/file"), str(tmp_path / "folder/other"))
    filesystem.copy_file(str(tmp_path / "folder/other"), str(tmp_path / "folder/copy"))
    filesystem.delete_file(str(tmp_path / "folder/other"))
    assert [path.name for path in sorted((tmp_path / "folder").iterdir())] == ["copy", "inner"]
    filesystem.delete_dir(str(tmp_path / "folder"))
    assert not (tmp_path / "folder").exists()


def test_a_file_is_not_there_before_it_is_whole(tmp_path):
    folder = Asked(str(tmp_path), "token", "node")
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    stream = folder.open_output_stream(str(path), None)
    folder.ask("write", str(path), 0, CONTENT[:10])
    assert path.read_bytes() == b"old"
    stream.write(CONTENT)
    stream.close()
    assert path.read_bytes() == CONTENT


def test_a_server_that_starts_again_goes_on_and_repeats_no_part(tmp_path):
    path = str(tmp_path / "a")
    FolderServer(str(tmp_path)).write(path, 0, b"123")
    FolderServer(str(tmp_path)).write(path, 3, b"456")
    FolderServer(str(tmp_path)).write(path, 3, b"456")  # Ray has sent the call twice
    FolderServer(str(tmp_path)).finish(path)
    FolderServer(str(tmp_path)).finish(path)
    assert (tmp_path / "a").read_bytes() == b"123456"
    with pytest.raises(FileNotFoundError):  # what came before is lost
        FolderServer(str(tmp_path)).write(path, 3, b"456")


@pytest.mark.parametrize("path", ["/etc/hostname", "../outside", "inner/../../outside"])
def test_nothing_outside_of_the_folder_is_served(path, tmp_path):
    server = FolderServer(str(tmp_path / "run"))
    with pytest.raises(PermissionError, match="is not below"):
        server.read(str(tmp_path / "run" / path), 0, 1)
    with pytest.raises(PermissionError, match="is not below"):
        server.append(str(tmp_path / "run" / path), "line")


def test_who_gets_it_looks_for_the_folder_anew(tmp_path):
    folder = ServedFolder(str(tmp_path), "token", "node")
    (tmp_path / ".driver-token").touch()
    assert folder.is_here
    (tmp_path / ".driver-token").unlink()  # as on another machine
    assert not pickle.loads(pickle.dumps(folder)).is_here


def test_the_mark_of_a_driver_that_was_killed_goes_with_the_next_one(tmp_path):
    served_folder._leave_mark(tmp_path, "killed")
    served_folder._leave_mark(tmp_path, "token")
    assert [path.name for path in tmp_path.iterdir()] == [".driver-token"]
    assert not ServedFolder(str(tmp_path), "killed", "node").is_here


def test_nothing_is_added_to_a_file(filesystem, tmp_path):
    with pytest.raises(OSError, match="files in the driver's folder are written once"):
        filesystem.open_append_stream(str(tmp_path / "a"))


class Ends:
    """An actor that has ended as many times as there are errors, each with the worker that had started it."""

    def __init__(self, errors):
        self.read = self
        self._errors = errors

    def remote(self, *arguments):
        return lambda: self._errors.pop()() if self._errors else b"content"


@pytest.mark.parametrize(("times", "expected"), [(0, b"content"), (4, b"content"), (5, None)])
def test_an_actor_that_ended_is_started_again(times, expected, tmp_path, monkeypatch):
    def ended():
        raise RayActorError(error_msg="its owner has died")

    monkeypatch.setattr(served_folder.ray, "get", lambda answer: answer())
    monkeypatch.setattr(ServedFolder, "_server", Ends([ended] * times))
    folder = ServedFolder(str(tmp_path), "token", "node")
    if expected is None:
        with pytest.raises(OSError, match="the driver's machine does not answer: its owner has died"):
            folder.ask("read", "a", 0, 1)
    else:
        assert folder.ask("read", "a", 0, 1) == expected


def test_log_lines_of_a_worker_elsewhere_come_to_the_folder_of_the_run(tmp_path):
    log = WorkerLog(str(tmp_path), "info", "digits")
    assert log_from_here(log, pyarrow.fs.LocalFileSystem()) is log
    filesystem = pyarrow.fs.PyFileSystem(Asked(str(tmp_path), "token", "node"))
    sent = log_from_here(log, filesystem)
    assert isinstance(sent, SentLog)
    handler = sent.handler(tmp_path / "logs/trainer-0.log")
    handler.stream.write("one line\n")
    handler.stream.write("another\n")
    handler.close()
    assert (tmp_path / "logs/trainer-0.log").read_text() == "one line\nanother\n"


SHARES_NO_DISK = """
import json, sys, tempfile
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, sys.argv[2])
import ray_fakes
from other_mounts import without
from ray import cloudpickle
from ray.cluster_utils import Cluster
from selftune.errors import Stopped
from selftune.logs import WorkerLog
from selftune.schedulers import run_on_ray
from selftune.schedulers.session import private_session

cloudpickle.register_pickle_by_value(ray_fakes)
recorder = ray_fakes.Recorder()
folder = Path(sys.argv[1])
folder.mkdir()
(Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)  # where Cluster leaves its address

def run(**more):
    return run_on_ray(
        ray_fakes.ToyMethod(2), ray_fakes.Toys(), members=2, cpus=1, gpus=0, folder=folder, listener=recorder,
        space=ray_fakes.SPACE, address=cluster.address, log=WorkerLog(str(folder), "info", "toys"), patience=60,
        **more,
    )

with private_session() as session:
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "temp_dir": str(session)}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    with patch("ray._private.utils.set_sigterm_handler"):  # which threads cannot set
        without(folder, lambda: cluster.add_node(**node))
    try:
        run(stop=lambda: len(recorder.of("hyper_step")) > 8)
    except Stopped:
        pass
    logs = {path.name: path.read_text() for path in (folder / "logs").iterdir()}
    steps = len(recorder.of("hyper_step"))
    reports = run(resume=True)
    cluster.shutdown()
weights = {member: report.tensors["network.weights"].tolist() for member, report in reports.items()}
saved = [path.parts[-3] for path in folder.glob("ray/run-*/*/checkpoint_*/trainer.safetensors")]
left = [path.name for path in folder.iterdir()]
print(json.dumps([recorder.of("hyper_step"), weights, steps, logs, saved, left]))
"""


@pytest.mark.full
@pytest.mark.timeout(400)
def test_a_node_without_the_drivers_disk_trains_as_any_other(tmp_path, undisturbed):
    if os.geteuid():
        pytest.skip("only root can give a process other mounts")
    output = python(SHARES_NO_DISK, tmp_path / "run", Path(__file__).parent, cwd=tmp_path, seconds=350)
    steps, weights, before, logs, saved, left = json.loads(output.splitlines()[-1])
    expected, expected_weights = undisturbed(ToyMethod(2))
    assert 0 < before < len(expected.of("hyper_step"))  # it was stopped on the way, and went on
    known = {step[1]: step for step in steps}  # a resumed run says some again
    assert list(known.values()) == json.loads(json.dumps(expected.of("hyper_step")))
    assert weights == {str(member): values for member, values in expected_weights.items()}
    assert set(logs) == {"trainer-0.log", "trainer-1.log"}
    assert all("saved its state" in lines for lines in logs.values())
    assert len(set(saved)) == 2
    assert sorted(left) == ["logs", "ray"]
