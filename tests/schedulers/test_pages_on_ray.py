"""Programs of the pages from-ray-tune.md and from-pbt.md run, on a cluster that Ray starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
START = "import ray\n\nray.init(num_cpus=2, include_dashboard=False, _node_ip_address='127.0.0.1')\n"


def blocks(page):
    return re.findall(
        r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def printed(program, folder):
    """What a program prints, in a process of its own: Ray sends functions of its main module by value."""
    (folder / "page.py").write_text(START + program)
    environment = os.environ | {"HOME": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=560
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_search_and_a_team(tmp_path):
    before, after = blocks("from-ray-tune.md")
    said = printed(before + after, tmp_path)
    assert re.search(r"^\{'dropout': 0\.\d+, 'weight_decay': [\d.e-]+\}$", said, re.MULTILINE)
    assert re.search(r"^\{'dropout\.rate': .*'weight_decay\.strength': .*\} [\d.]+$", said, re.MULTILINE)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_population(tmp_path):
    _, population = blocks("from-pbt.md")
    for long, short in (("max_epochs=40", "max_epochs=8"), ("num_samples=8", "num_samples=2")):
        assert long in population
        population = population.replace(long, short)
    assert re.search(r"^\{'dropout': .*'weight_decay': .*\} [\d.]+$", printed(population, tmp_path), re.MULTILINE)
