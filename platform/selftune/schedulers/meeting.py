"""Where the workers of a trainer find each other."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import FileStore, Store, TCPStore

from selftune.schedulers import ray_internals
from selftune.training.process_group import DataParallelGroup

_PATIENCE = timedelta(minutes=30)
"""How long a worker waits for the others in the middle of a step; who hangs is ended long before by the driver."""
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_BACKLOG = 128


@dataclass(frozen=True)
class Meeting:
    """Where the workers of a trainer find each other.

    Args:
        size: number of workers.
        backend: of ``torch.distributed``.
        file: where all of them are on one node, a file there; empty otherwise.
        host, port: of the first worker, where they are not.
    """

    size: int
    backend: str
    file: str = ""
    host: str = ""
    port: int = 0

    def join(self, rank: int, address: str, store: Store | None = None) -> DataParallelGroup:
        """Waits for the others, and connects to them.

        Args:
            rank: of this worker.
            address: of its node.
            store: of the first worker, where others connect to it.
        """
        if self.file:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # other machines have no business here
            store = FileStore(self.file, self.size)
        else:
            interface = ray_internals.interface(address)
            if (
                interface is not None
            ):  # else they take that of the host's name, which may be reachable from here only
                for name in _INTERFACES:
                    os.environ.setdefault(name, interface)
            if store is None:
                store = TCPStore(self.host, self.port, self.size, is_master=False)
        dist.init_process_group(self.backend, store=store, rank=rank, world_size=self.size, timeout=_PATIENCE)
        return DataParallelGroup()


def listening_store(address: str, size: int) -> TCPStore:
    """A store for so many workers that listens on one address; by itself torch's listens on all of a machine's.

    >>> store = listening_store("127.0.0.1", 2)
    >>> store.set("asked", "answered")
    >>> TCPStore("127.0.0.1", store.port, 2, is_master=False).get("asked")
    b'answered'
    """
    family = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][0]
    with socket.create_server((address, 0), family=family, backlog=_BACKLOG) as listener:
        port = listener.getsockname()[1]
        store = TCPStore(
            address, port, size, is_master=True, wait_for_workers=False, master_listen_fd=listener.fileno()
        )
        listener.detach()  # the store closes it
    return store
