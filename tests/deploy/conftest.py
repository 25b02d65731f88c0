"""The image, built in a folder of this machine."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from deploy.dockerfile import Tree, ignore_list, stages

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def base_python(version):
    """A Python that stands for that of the base image: of the same version, with pip, and open to every user."""
    for program in (Path(sys.base_prefix) / "bin" / "python3", Path("/usr/bin/python3")):
        is_open = all(folder.stat().st_mode & 0o001 for folder in program.resolve().parents)
        if is_open or os.geteuid():
            asked = subprocess.run([program, "-m", "pip", "--version"], capture_output=True, text=True)
            if asked.returncode == 0 and f"(python {version})" in asked.stdout:
                return program
    raise FileNotFoundError(
        f"no Python {version} with pip that every user may run; install it (Debian: python3-pip)"
    )


@pytest.fixture(scope="session")
def image():
    """The tree that the Dockerfile's steps make, with the variables of its last stage: no test may change it."""
    arguments, (build, final) = stages(DOCKERFILE)
    python = base_python(arguments["PYTHON_IMAGE"].removeprefix("python:").partition("-")[0])
    folder = Path(tempfile.mkdtemp(prefix="selftune-image-"))
    try:
        folder.chmod(0o755)
        base = folder / "usr" / "local" / "bin" / "python"
        base.parent.mkdir(parents=True)
        base.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
        base.chmod(0o755)
        path = f"{base.parent}:{os.defpath}"
        tree = Tree(folder, ROOT, ("/opt/selftune", "/build", "/home/selftune"))
        tree.variables["PATH"] = path
        # An index that this machine may not reach would be asked again and again. Torch without CUDA is where
        # pip's own settings say.
        tree.run(build, ignore_list(DOCKERFILE.with_name("Dockerfile.dockerignore")), {"PIP_EXTRA_INDEX_URL": ""})
        shutil.rmtree(folder / "build")
        (folder / "home" / "selftune").mkdir(parents=True)
        if os.geteuid() == 0:
            os.chown(folder / "home" / "selftune", 1000, 1000)
        tree.variables = {"PATH": path}
        tree.run(final._replace(instructions=[i for i in final.instructions if i.name == "ENV"]), [], {})
        tree.variables["PATH"] = tree.mapped(tree.variables["PATH"])
        tree.variables["HOME"] = tree.mapped("/home/selftune")
        yield tree
    finally:
        shutil.rmtree(folder)
