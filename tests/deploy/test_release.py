"""What a release is made of, and what it needs where it is installed."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

import selftune

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]
TORCH_NEEDS = ("torch", "numpy", "filelock", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2")
TORCH_NEEDS += ("MarkupSafe", "fsspec", "setuptools")

IN_MEMORY = """
import torch
from selftune import Classification, Interval, Optimization, Tune, tune

generator = torch.Generator().manual_seed(0)
x = torch.randn(256, 6, generator=generator)
y = (x[:, 0] > 0).long()
objective = Classification(
    build=lambda: torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)),
    train=(x[:128], y[:128]),
    validation=(x[128:192], y[128:192]),
    test=(x[192:], y[192:]),
    optimization=Optimization(batch_size=32, learning_rate=0.05),
)
result = tune(objective, {"dropout": {"rate": Tune(0.1)}, "weight_decay": {"strength": Tune(1e-4)}}, steps=600)
print(result)
for name in ("ray", "mlflow", "optuna", "pydantic", "yaml", "pyarrow", "rich", "sklearn"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} is here, so that this shows nothing")
"""


def tracked():
    """Files of the repository, and those that will be: what git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).exists())


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder with both files, built as `make dist` does from a working copy that has been worked in."""
    copy = tmp_path_factory.mktemp("copy")
    for name in tracked():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    for junk in (".env", "deploy/.env", "runs/digits-1/summary.json", "mlflow.db", "build/lib/selftune/old.py"):
        (copy / junk).parent.mkdir(parents=True, exist_ok=True)
        (copy / junk).write_text("left over")
    cache = copy / "platform" / "selftune" / "__pycache__"
    cache.mkdir()
    (cache / "cli.cpython-311.pyc").write_bytes(b"left over")
    tools = ROOT / "build" / "tools" / "bin" / "python"
    assert tools.exists(), "run `make tools` first"
    subprocess.run([tools, "-m", "build", "--outdir", copy / "dist"], cwd=copy, check=True, capture_output=True)
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(dist):
    return dist / f"selftune-{VERSION}-py3-none-any.whl"


def package_files():
    """Where every file of a package lies in the wheel."""
    homes = PROJECT["tool"]["setuptools"]["package-dir"]
    for package, folder in homes.items():
        for name in tracked():
            if name.startswith(f"{folder}/") and (ROOT / name).is_file() and not (ROOT / name).is_symlink():
                yield f"{package.replace('.', '/')}/{name.removeprefix(f'{folder}/')}"


def test_there_is_one_version():
    assert distribution("selftune").version == VERSION
    assert selftune.__version__ == VERSION
    printed = subprocess.run(
        [sys.executable, "-m", "selftune.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == f"selftune {VERSION}"
    for file in ("deploy/Dockerfile", "deploy/compose.yaml", "deploy/compose.cuda.yaml", "deploy/.env.example"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert set(re.findall(r"selftune:(\d+\.\d+\.\d+)-(?:cpu|cuda)\b", text)) == {VERSION}, file
    text = (ROOT / "deploy" / "cluster.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"selftune-(\d+\.\d+\.\d+)-", text)) == {VERSION}


def test_extras():
    assert set(PROJECT["project"]["optional-dependencies"]) == {"lightning", "hf", "s3", "cluster", "dev"}


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    about = f"selftune-{VERSION}.dist-info/"
    assert {name for name in names if not name.startswith(about)} == set(package_files())
    assert f"{about}licenses/LICENSE" in names


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_the_source_distribution_holds_what_builds_it_and_nothing_else(dist):
    with tarfile.open(dist / f"selftune-{VERSION}.tar.gz") as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    folders = tuple(f"{folder}/" for folder in PROJECT["tool"]["setuptools"]["package-dir"].values())
    packages = {name for name in tracked() if name.startswith(folders) and not (ROOT / name).is_symlink()}
    beside = {name for name in names if not name.startswith(("selftune.egg-info/", *folders))}
    assert {name for name in names if name.startswith(folders)} == packages
    assert beside == {
        "CHANGELOG.md",
        "LICENSE",
        "MANIFEST.in",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        "setup.cfg",
    }


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_without_dependencies_it_tunes_beside_torch_and_numpy(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    python = tmp_path / "bare" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
    )
    (packages,) = (tmp_path / "bare" / "lib").glob("python*/site-packages")
    for name in TORCH_NEEDS:
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files if file.parts[0] not in ("..", "__pycache__")}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(installed.locate_file(top)))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", IN_MEMORY], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "dropout.rate" in done.stdout


@pytest.mark.integration
@pytest.mark.timeout(1800)
def test_installed_with_its_dependencies_it_runs_the_demo(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "clean"], check=True)
    programs = tmp_path / "clean" / "bin"
    options = ["--quiet", "--disable-pip-version-check", "--no-compile", "--no-cache-dir"]
    subprocess.run(
        [programs / "python", "-m", "pip", "install", *options, "--constraint", ROOT / "constraints.txt", wheel],
        check=True,
        cwd=tmp_path,
    )
    missing = subprocess.run([programs / "python", "-c", "import pytest"], cwd=tmp_path, capture_output=True)
    assert missing.returncode == 1, "the environment is not clean"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON"))}
    done = subprocess.run(
        [programs / "selftune", "run", "digits", "--output", "result"],
        cwd=tmp_path,
        env={**environment, "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "result" / "summary.json").exists()
    assert (tmp_path / "result" / "report.html").exists()
