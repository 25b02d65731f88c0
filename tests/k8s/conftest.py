"""Manifests for tests: rendered by the command, as people do it, each once."""

import os
import shutil
from functools import cache

import pytest
import yaml

from selftune.cli import main


@pytest.fixture(autouse=True, scope="session")
def kubectl():
    if shutil.which("kubectl") is None:
        said = "kubectl is not installed; these tests render manifests by `kubectl kustomize`"
        if os.environ.get("SELFTUNE_INTEGRATION"):
            pytest.fail(said)
        pytest.skip(said)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """What ``selftune render`` writes: a function of the study's text and of arguments."""
    folder = tmp_path_factory.mktemp("studies")

    @cache
    def render(text, *arguments):
        study, out = folder / "study.yaml", folder / "manifests.yaml"
        study.write_text(text)
        assert main(["render", str(study), *arguments, "--output", str(out)]) == 0
        return [*yaml.safe_load_all(out.read_text())]

    return render
