"""The tables at the end of a sweep."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from synthetic_trials import RATE, SPACE, records, settings, tell

from selftune.sweeps.results import print_sweep
from selftune.tracking.summary import Summary
from selftune.tracking.trials_file import TrialsWriter, read_trials


def test_the_winner_and_where_everything_is(tmp_path: Path) -> None:
    tell(TrialsWriter(tmp_path, SPACE, settings()), records())
    winner = read_trials(tmp_path).winner
    assert winner is not None
    summary: Summary = {
        "winner": {
            "number": winner.number,
            "values": dict(winner.values),
            "training_step": winner.best_step or 0,
            "value": winner.best or 0.0,
        },
        "measures": {"validation_loss": 0.1315, "test_loss": 0.1521, "test_accuracy": 0.951},
        "trials": {"finished": 10, "stopped": 10, "failed": 2, "refused": 2},
        "spent": 10_600,
        "seconds": 76.0,
    }
    (tmp_path / "network.pt").touch()
    out = Console(file=io.StringIO(), width=100)
    print_sweep(out, summary, tmp_path, mlflow=False)
    text = out.file.getvalue()
    assert "best values: those of trial 14, validation loss 0.1315 at training step 400" in text
    rows = [line.split() for line in text.splitlines()]
    assert [RATE, "0.01674"] in rows
    assert ["objective.hidden", "[64,", "64]"] in rows
    assert ["trial", "14", "0.1315", "0.1521", "0.9510"] in rows
    assert "trials  24: 10 finished, 10 stopped, 2 failed, 2 refused" in text
    assert "spent   10,600 training steps of all networks, 1:16 of training" in text
    assert f"network {tmp_path / 'network.pt'} (" in text
    assert "report.html" not in text, "there is none in this folder"
