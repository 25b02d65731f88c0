"""The image: what its Dockerfile's steps make, without a container engine, and what they say."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from deploy.dockerfile import environment, ignore_list, is_ignored, stages

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
USER = 1000


def run(image, *command, seconds=300):
    """What a command prints in the image, as the image's user where the tests may change to it."""
    finished = subprocess.run(
        command,
        env=image.variables,
        cwd=image.mapped("/home/selftune"),
        capture_output=True,
        text=True,
        timeout=seconds,
        user=USER if os.geteuid() == 0 else None,
        group=USER if os.geteuid() == 0 else None,
        extra_groups=[] if os.geteuid() == 0 else None,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def requirements(device):
    """Names and versions of what the image installs."""
    text = (ROOT / "deploy" / f"requirements-{device}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", text, re.MULTILINE))


def named(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_installed_is_what_the_tests_use(device):
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split())
    tested = {named(name): version for name, version in constraints.items()}
    installed = requirements(device)
    other = {
        name: version for name, version in installed.items() if tested.get(name, version) != version.split("+")[0]
    }
    assert not other
    assert {"torch", "ray", "mlflow", "boto3", "psycopg-binary", "optuna"} <= set(installed)
    # Neither tests nor documentation, nor callbacks of other trainers, run in the image.
    assert not {"pytest", "moto", "mkdocs", "transformers", "pytorch-lightning", "pip"} & set(installed)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_requirement_has_a_hash(device):
    text = (ROOT / "deploy" / f"requirements-{device}.txt").read_text(encoding="utf-8")
    entries = re.sub(r"\\\n\s+", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    assert len(entries) == len(requirements(device))
    assert not [entry for entry in entries if "--hash=sha256:" not in entry]


def test_devices_differ_in_torch_alone():
    cpu, cuda = requirements("cpu"), requirements("cuda")
    assert cpu["torch"] == cuda["torch"] + "+cpu"
    assert set(cpu) < set(cuda)
    assert all(re.match("cuda|nvidia|triton", name) for name in set(cuda) - set(cpu))
    assert {name for name in cpu if cpu[name] != cuda[name]} == {"torch"}


def test_all_that_the_package_is_made_of_is_in_the_context():
    ignored = ignore_list(DOCKERFILE.with_name("Dockerfile.dockerignore"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for folder in project["tool"]["setuptools"]["package-dir"].values():
        assert not is_ignored(f"{folder}/__init__.py", ignored), folder
    assert not is_ignored("platform/selftune/studies/run.py", ignored)
    assert not is_ignored("pyproject.toml", ignored)
    for other in (
        ".git/config",
        ".env",
        "deploy/.env",
        "tests/conftest.py",
        "platform/selftune/__pycache__/cli.pyc",
    ):
        assert is_ignored(other, ignored), other


def test_processes_run_without_rights():
    _, (_, final) = stages(DOCKERFILE)
    (user,) = final.all("USER")
    assert user == f"{USER}:{USER}"
    (made,) = final.all("RUN")
    assert f"useradd --uid {USER} " in made
    names = [instruction.name for instruction in final.instructions]
    assert names.index("RUN") < names.index("USER") < names.index("CMD")
    assert environment(final.all("ENV")[0])["PATH"].startswith("/opt/selftune/bin:")


@pytest.mark.integration
@pytest.mark.timeout(1500)
def test_the_steps_make_what_runs(image):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert run(image, "selftune", "--version").strip() == f"selftune {version}"
    assert run(image, "ray", "--version").strip() == f"ray, version {requirements('cpu')['ray']}"
    assert run(image, "mlflow", "--version").strip().endswith(requirements("cpu")["mlflow"])
    run(image, "python", "-c", "import psycopg, boto3, ray.dashboard.head, ray.job_submission")
    _, (_, final) = stages(DOCKERFILE)
    assert "selftune" in run(image, *json.loads(final.all("CMD")[0]))


@pytest.mark.integration
@pytest.mark.timeout(1500)
def test_a_study_runs_and_writes_below_its_home_alone(image):
    program = image.root / "opt" / "selftune"
    before = {path: path.stat().st_mtime_ns for path in program.rglob("*")}
    run(image, "selftune", "run", "digits", "--local", "--output", "result")
    result = image.root / "home" / "selftune" / "result"
    assert json.loads((result / "summary.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert {path: path.stat().st_mtime_ns for path in program.rglob("*")} == before


@pytest.mark.integration
@pytest.mark.timeout(1500)
def test_the_image_tells_whose_work_it_holds(image):
    text = (image.root / "opt" / "selftune" / "THIRD_PARTY.txt").read_text(encoding="utf-8")
    found = dict(re.findall(r"^([\w.-]+) (\S+): ", text.partition("=" * 20)[0], re.MULTILINE))
    assert {named(name): version for name, version in found.items()} == requirements("cpu")
    assert (image.root / "opt" / "selftune" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.integration
@pytest.mark.timeout(1500)
def test_the_image_holds_no_installer(image):
    assert not list((image.root / "opt" / "selftune" / "bin").glob("pip*"))
