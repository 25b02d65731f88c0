"""Memory of this machine, or of the container that we are in."""

import os

import pytest

from selftune import memory


@pytest.mark.parametrize(("bound", "found"), [("4096\n", 4096), ("max\n", 10_000), (str(10**9), 10_000)])
def test_a_container_may_have_less_than_its_machine(tmp_path, monkeypatch, bound, found):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 100, "SC_PHYS_PAGES": 100}.get)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "memory.max")
    assert memory.machines_memory() == 10_000
    (tmp_path / "memory.max").write_text(bound)
    assert memory.machines_memory() == found
