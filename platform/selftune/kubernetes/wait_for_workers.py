"""Waits until a Ray cluster has its workers: ``python -m selftune.kubernetes.wait_for_workers 3``.

A study that goes on is started as soon as the new head answers, while workers that lost the old one still look for
it. `selftune run` would end at once: there is no room for its trainers.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import urllib.request
from collections.abc import Sequence

_DASHBOARD = "http://127.0.0.1:8265"  # jobs run where it does
_NODES = "/api/v0/nodes"  # of Ray's state API
_LOOK = 2.0  # seconds between two looks


def main(arguments: Sequence[str] | None = None) -> int:
    """Waits; the status is 0 also where some are missing: what runs next says for what there is no room."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workers", type=int, help="nodes beside the head")
    parser.add_argument(
        "--patience", type=float, default=600.0, help="seconds after which it goes on without them"
    )
    parser.add_argument("--dashboard", default=_DASHBOARD, help="where Ray's dashboard is")
    options = parser.parse_args(arguments)
    there = wait(options.workers, options.patience, options.dashboard)
    if there < options.workers:
        print(f"{there} of {options.workers} workers are there after {options.patience:g} seconds", flush=True)
    return 0


def wait(workers: int, patience: float, dashboard: str) -> int:
    """How many workers there are, once these are enough or the time is over."""
    until = time.monotonic() + patience
    while (there := _workers(dashboard)) < workers and time.monotonic() < until:
        time.sleep(min(_LOOK, max(0.0, until - time.monotonic())))
    return there


def _workers(dashboard: str) -> int:
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    asked = urllib.request.Request(
        dashboard + _NODES, headers={"Authorization": f"Bearer {token}"} if token else {}
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
    except (OSError, ValueError, KeyError, TypeError):  # it is not ready, or not Ray's; what follows will tell
        return 0
    return sum(node.get("state") == "ALIVE" and not node.get("is_head_node") for node in nodes)


if __name__ == "__main__":
    raise SystemExit(main())
