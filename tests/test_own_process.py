"""A process that dies fails one test, with its status and what it said."""

import pytest
from own_process import python, selftune


def test_what_is_printed_comes_back(tmp_path):
    assert "usage: selftune" in selftune("--help", cwd=tmp_path)


def test_the_status_and_the_output_of_a_failure_are_shown(tmp_path):
    with pytest.raises(AssertionError, match=r"status 2:\nnowhere.yaml: there is no such file"):
        selftune("run", "nowhere.yaml", cwd=tmp_path)


def test_what_does_not_end_is_ended(tmp_path):
    with pytest.raises(AssertionError, match=r"status -9:\n(.*\n)*not done within 0.01 seconds"):
        selftune("list", cwd=tmp_path, seconds=0.01)


def test_a_script_has_none_of_the_settings_of_another_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another cluster")
    script = "import os, sys; print(sys.argv[1:], [name for name in os.environ if name.startswith('RAY_')])"
    assert python(script, "first", cwd=tmp_path) == "['first'] ['RAY_worker_niceness']\n"  # of all tests
