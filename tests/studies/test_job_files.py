"""What goes along with a study that runs on another machine."""

import io
import json
import subprocess
import sys
import zipfile

import pytest

from selftune.studies import job_files
from selftune.studies.job_files import STUDY, pack
from selftune.studies.mistakes import UserError

TABLE = "study: houses\nobjective: {{task: table, dataset: {dataset}, target: price}}\nbudget: {{steps: 10}}\n"


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """The files that are sent with a study, by name."""
    monkeypatch.chdir(tmp_path)

    def packed(text):
        (tmp_path / "houses.yaml").write_text(text)
        pack(tmp_path / "houses.yaml", tmp_path / "out.zip")
        with zipfile.ZipFile(tmp_path / "out.zip") as found:
            return {name: found.read(name) for name in found.namelist()}

    return packed


def test_a_study_alone(packed):
    text = TABLE.format(dataset="breast_cancer")
    assert packed(text) == {STUDY: text.encode()}


def test_data_below_the_current_folder_goes_along_under_its_name(packed, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "houses.csv").write_text("price\n1\n")
    (tmp_path / "secret.csv").write_text("not named")
    found = packed(TABLE.format(dataset="data/houses.csv"))
    assert found.keys() == {STUDY, "data/houses.csv"}
    assert found["data/houses.csv"] == b"price\n1\n"
    assert packed(TABLE.format(dataset="./data/")).keys() == {STUDY, "data/houses.csv"}


def test_what_a_sweep_chooses_between_goes_along(packed, tmp_path):
    (tmp_path / "a.csv").write_text("a")
    (tmp_path / "b.csv").write_text("b")
    sweep = "sweep: {trials: 2, space: {objective.dataset: {choice: [a.csv, b.csv]}}}\n"
    assert packed(TABLE.format(dataset="a.csv") + sweep).keys() == {STUDY, "a.csv", "b.csv"}


@pytest.mark.parametrize("dataset", ["/data/houses.csv", "~/houses.csv", "s3://bucket/houses.csv"])
def test_paths_of_the_cluster_stay_as_they_are(packed, dataset):
    assert packed(TABLE.format(dataset=dataset)).keys() == {STUDY}


def test_the_same_files_make_the_same_bytes(packed, tmp_path):
    packed(TABLE.format(dataset="breast_cancer"))
    first = (tmp_path / "out.zip").read_bytes()
    packed(TABLE.format(dataset="breast_cancer"))
    assert (tmp_path / "out.zip").read_bytes() == first


def test_too_much_is_refused(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(job_files, "LARGEST", 2**20)
    (tmp_path / "houses.csv").write_bytes(bytes(3 * 2**20))
    with pytest.raises(UserError) as refused:
        packed(TABLE.format(dataset="houses.csv"))
    assert "3 MiB would be sent with it, of which houses.csv has 3 MiB, and 1 MiB may be" in str(refused.value)


def test_data_from_elsewhere_is_refused(packed, tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    (tmp_path / "houses.csv").write_text("price\n")
    monkeypatch.chdir(tmp_path / "below")
    with pytest.raises(UserError, match=r"objective.dataset: \.\./houses.csv is not below the current folder"):
        packed(TABLE.format(dataset="../houses.csv"))


def test_a_package_that_is_being_written_goes_along_and_is_found(packed, tmp_path, monkeypatch):
    source, installed = tmp_path / "source", tmp_path / "installed"
    (source / "my_tasks").mkdir(parents=True)
    (source / "my_tasks" / "__init__.py").write_text("WHAT = 'a task'\n")
    (metadata := installed / "my_tasks-1.0.dist-info").mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-tasks\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[selftune.tasks]\nmine = my_tasks\n")
    (metadata / "direct_url.json").write_text(json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}}))
    monkeypatch.syspath_prepend(str(source))
    monkeypatch.syspath_prepend(str(installed))
    found = packed(TABLE.format(dataset="breast_cancer"))
    assert "my_tasks/__init__.py" in found
    there = tmp_path / "there"
    zipfile.ZipFile(io.BytesIO((tmp_path / "out.zip").read_bytes())).extractall(there)
    script = (
        "from importlib.metadata import entry_points\n"
        "print([one.load().WHAT for one in entry_points(group='selftune.tasks') if one.name == 'mine'])"
    )
    seen = subprocess.run([sys.executable, "-c", script], cwd=there, capture_output=True, text=True, check=True)
    assert seen.stdout == "['a task']\n"
    (metadata / "direct_url.json").unlink()
    assert packed(TABLE.format(dataset="breast_cancer")).keys() == {STUDY}
