"""Where workers of different nodes meet."""

import os

import pytest
import torch.distributed as dist
from ray._private.utils import psutil  # the one that Ray brings

from selftune.schedulers import meeting
from selftune.schedulers.meeting import Meeting, listening_store


def listeners(port):
    sockets = psutil.Process().net_connections("tcp")
    return [s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr.port == port]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_the_store_listens_on_the_nodes_address_alone(address):
    store = listening_store(address, 2)
    assert listeners(store.port) == [address]
    other = dist.TCPStore(address, store.port, 2, is_master=False)
    other.set("asked", "answered")
    assert store.get("asked") == b"answered"


@pytest.mark.parametrize(
    ("address", "before", "after"),
    [("127.0.0.1", None, "lo"), ("127.0.0.1", "mine", "mine"), ("192.0.2.77", None, None)],
)
def test_workers_connect_by_the_interface_of_the_nodes_address(address, before, after, monkeypatch):
    """Not by that of the machine's name, which Debian gives an address that only the machine itself reaches."""
    for name in meeting._INTERFACES:
        monkeypatch.delenv(name, raising=False)
        if before is not None:
            monkeypatch.setenv(name, before)
    joined = []
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **settings: joined.append(settings["rank"]))
    monkeypatch.setattr(meeting, "DataParallelGroup", lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", environment := dict(os.environ))
        Meeting(2, "gloo", host=address, port=1).join(0, address, store=object())
    assert joined == [0]
    assert [environment.get(name) for name in meeting._INTERFACES] == [after, after]
