"""A stream of Ray Data as a split: what docs/data.md shows."""

import re
from itertools import chain
from pathlib import Path

import pytest
from pictures import folder_of_pets
from selftune.objectives.data.image_files import read_images
from torch import nn

from selftune import Tune, tune
from selftune.cli import main

PAGE = Path(__file__).parents[3] / "docs" / "data.md"


@pytest.mark.full
@pytest.mark.timeout(300)
def test_the_example_of_the_page_trains(tmp_path):
    ray = pytest.importorskip("ray")
    file = tmp_path / "pets.parquet"
    assert main(["data", "import", str(folder_of_pets(tmp_path / "pets")), "--output", str(file)]) == 0
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "ray.data" in block
    )

    def network():
        return nn.Sequential(nn.Flatten(), nn.Linear(90, 2))

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        names = {"network": network}
        exec(code.replace("flowers.parquet", str(file)).replace("64", "4"), names)
        first, again = ([batch["labels"].tolist() for batch in names["stream"]] for _ in range(2))
        assert first == again
        labels = read_images(file)
        assert sorted(chain.from_iterable(first)) == labels.labels[labels.splits["train"]].tolist()
        tune(names["objective"], {"weight_decay": {"strength": Tune(1e-2)}}, steps=6, warmup_steps=2)
    finally:
        ray.shutdown()
