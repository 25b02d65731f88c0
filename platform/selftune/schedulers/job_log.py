"""The log of a job while it grows, over connections that may break."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from selftune.schedulers.jobs import ClusterAway, Job, Jobs

PATIENCE = 600.0
"""Seconds without an answer after which following ends."""
_LONGEST = 30.0  # seconds between two attempts
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # Ray's server answers no pings


class JobLog:
    """Shows the log of a job, each character once.

    Every connection gets the log from its beginning; what was shown already is left out.

    Args:
        show: is given the log, in pieces.
        say: is given sentences about the connection.
    """

    def __init__(self, jobs: Jobs, name: str, show: Callable[[str], None], say: Callable[[str], None]) -> None:
        self._jobs, self._name, self._show, self._say = jobs, name, show, say
        self._shown = 0
        self._lost: float | None = None  # when the connection was lost

    def follow(self, patience: float = PATIENCE) -> Job:
        """Shows the log until the job is over, and returns how it ended.

        Args:
            patience: seconds without an answer after which this gives up.

        Raises:
            ClusterAway: if the patience is over.
            JobError: if the cluster does not know the job, any more, or refuses.
        """
        pause = 1.0
        while True:
            try:
                job = self._jobs.job(self._name)
                self._found()
                pause = 1.0
                if job.is_over:
                    self._take(0, self._jobs.log(self._name))
                    return job
                asyncio.run(self._connect())
            except ClusterAway as error:
                self._missed(error, patience)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)

    def _found(self) -> None:
        if self._lost is not None:
            self._say("the cluster answers again")
        self._lost = None

    def _missed(self, error: ClusterAway, patience: float) -> None:
        if self._lost is None:
            self._lost = time.monotonic()
            self._say("the connection to the cluster is lost, and tried again; the job does not need it")
        elif time.monotonic() - self._lost > patience:
            raise error

    def _take(self, position: int, piece: str) -> int:
        """Shows what is new of a piece that begins at a position; returns where it ends."""
        end = position + len(piece)
        if end > self._shown:
            self._show(piece[max(0, self._shown - position) :])
            self._shown = end
        return end

    async def _connect(self) -> None:
        """Shows the log until the connection ends.

        Raises:
            ClusterAway: if it does so by a fault.
        """
        import aiohttp

        position, client = 0, self._jobs.client
        address = f"{client._address}/api/jobs/{self._name}/logs/tail"
        try:
            async with (
                aiohttp.ClientSession(headers=client._headers, cookies=client._cookies) as session,
                session.ws_connect(address, ssl=client._ssl_context or True, max_msg_size=0) as connection,
            ):
                _keep_alive(connection.get_extra_info("socket"))
                async for message in connection:
                    if message.type == aiohttp.WSMsgType.TEXT:
                        position = self._take(position, message.data)
                if connection.exception() is not None:
                    raise ClusterAway(f"{self._jobs.address}: {connection.exception()}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ClusterAway(f"{self._jobs.address}: {error}") from error


def _keep_alive(connection: socket.socket | None) -> None:
    """Has the system find out that the other end has gone without a word."""
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
