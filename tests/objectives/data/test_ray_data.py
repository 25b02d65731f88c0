"""A stream of Ray Data as a split: what docs/data.md shows."""

import re
from pathlib import Path

import pytest
from own_process import python
from pictures import folder_of_pets

from selftune.cli import main

PAGE = Path(__file__).parents[3] / "docs" / "data.md"
SCRIPT = """\
import sys
from itertools import chain
import ray
from selftune.objectives.data.image_files import read_images
from torch import nn
from selftune import Tune, tune

def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(90, 2))

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
{}
first, again = ([batch["labels"].tolist() for batch in stream] for _ in range(2))
assert first == again
labels = read_images(sys.argv[1])
assert sorted(chain.from_iterable(first)) == labels.labels[labels.splits["train"]].tolist()
tune(objective, {{"weight_decay": {{"strength": Tune(1e-2)}}}}, steps=6, warmup_steps=2)
print("tuned")
"""


@pytest.mark.full
@pytest.mark.timeout(300)
def test_the_example_of_the_page_trains(tmp_path):
    pytest.importorskip("ray")
    file = tmp_path / "pets.parquet"
    assert main(["data", "import", str(folder_of_pets(tmp_path / "pets")), "--output", str(file)]) == 0
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "ray.data" in block
    )
    code = code.replace("flowers.parquet", str(file)).replace("64", "4")
    assert python(SCRIPT.format(code), file, cwd=tmp_path).endswith("tuned\n")
