"""The loop that docs/from-pbt.md shows runs as it stands, over fewer epochs."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "from-pbt.md"


def test_the_loop_runs(capsys):
    loop, population = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert "PopulationBasedTraining" in population
    short = loop.replace("range(40)", "range(1)").replace(
        "    forward=forward,", "    forward=forward, warmup_steps=5,"
    )
    assert short.count("range(1)") == short.count("warmup_steps") == 1
    exec(compile(short, str(PAGE), "exec"), {})
    assert "dropout.rate" in capsys.readouterr().out
