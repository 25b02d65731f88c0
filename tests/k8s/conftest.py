"""Manifests for tests: rendered by the command, as people do it, each once."""

import shutil
from functools import cache

import pytest
import yaml
from studies_to_render import CASES, USUAL

from selftune.cli import main


@pytest.fixture(autouse=True, scope="session")
def kubectl(request):
    if shutil.which("kubectl") is None:
        said = "kubectl is not installed; these tests render manifests by `kubectl kustomize`"
        if request.config.getoption("--integration"):
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


@pytest.fixture(params=[pytest.param(name, marks=() if name in USUAL else pytest.mark.full) for name in CASES])
def manifests(request, rendered):
    """The manifests of one case after the other."""
    return rendered(*CASES[request.param])
