"""The program of docs/from-ray-tune.md runs as it stands, on a cluster that Ray starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "from-ray-tune.md"


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_program_runs(tmp_path):
    before, after = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    start = "import ray\n\nray.init(num_cpus=2, include_dashboard=False, _node_ip_address='127.0.0.1')\n"
    (tmp_path / "page.py").write_text(start + before + after)
    environment = os.environ | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=560
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\{'dropout': 0\.\d+, 'weight_decay': [\d.e-]+\}$", done.stdout, re.MULTILINE)
    assert re.search(r"^\{'dropout\.rate': .*'weight_decay\.strength': .*\} [\d.]+$", done.stdout, re.MULTILINE)
