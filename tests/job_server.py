"""As much of the job API of a Ray cluster as a client sees, with connections that break when a test wants it."""

import asyncio
import threading
from contextlib import contextmanager

from aiohttp import web


class JobServer:
    """One job, ``name``, whose log is ``text``.

    Attributes:
        breaks: after how many characters each of the next connections to the log breaks.
        away: how many of the next requests find nobody who can answer.
        state: of the job, once a connection to the log has come to its end.
        sent: the bodies of the requests that send a job.
    """

    def __init__(self, name, text, state="SUCCEEDED", code=0):
        self.name, self.text, self.state, self.code = name, text, state, code
        self.breaks, self.away, self.token = [], 0, None
        self.is_over, self.sent, self.packages, self.connections = False, [], [], 0
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @contextmanager
    def serving(self):
        self._thread.start()
        assert self._ready.wait(30)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.run_until_complete(self._runner.cleanup())
            self._loop.close()

    def _serve(self):
        asyncio.set_event_loop(self._loop)
        application = web.Application(middlewares=[self._guard])
        application.add_routes(
            [
                web.get("/api/version", self._version),
                web.get("/api/packages/{protocol}/{name}", self._no_package),
                web.put("/api/packages/{protocol}/{name}", self._package),
                web.post("/api/jobs/", self._send),
                web.get("/api/jobs/{name}", self._job),
                web.get("/api/jobs/{name}/logs", self._log),
                web.get("/api/jobs/{name}/logs/tail", self._tail),
                web.post("/api/jobs/{name}/stop", self._stop),
            ]
        )
        self._runner = web.AppRunner(application)
        self._loop.run_until_complete(self._runner.setup())
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.address = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()

    @web.middleware
    async def _guard(self, request, handler):
        if self.away:
            self.away -= 1
            return web.Response(status=503, text="away")
        shown = request.headers.get("authorization")
        if self.token is not None and shown != f"Bearer {self.token}":
            return web.Response(status=403 if shown else 401, text="Forbidden" if shown else "Unauthorized")
        if (name := request.match_info.get("name", self.name)) != self.name and "/jobs/" in request.path:
            return web.Response(status=404, text=f"Job {name} does not exist")
        return await handler(request)

    async def _version(self, request):
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""})

    async def _no_package(self, request):
        return web.Response(status=404)

    async def _package(self, request):
        self.packages.append(await request.read())
        return web.Response()

    async def _send(self, request):
        body = await request.json()
        if body["submission_id"] == self.name:
            return web.Response(status=500, text=f"Job with submission_id {self.name} already exists.")
        self.sent.append(body)
        self.name = body["submission_id"]
        return web.json_response({"job_id": self.name, "submission_id": self.name})

    async def _job(self, request):
        return web.json_response(
            {
                "type": "SUBMISSION",
                "submission_id": self.name,
                "entrypoint": "",
                "status": self.state if self.is_over else "RUNNING",
                "start_time": 1000,
                "driver_exit_code": self.code if self.is_over else None,
                "metadata": next((one["metadata"] for one in self.sent if one["submission_id"] == self.name), {}),
            }
        )

    async def _log(self, request):
        return web.json_response({"logs": self.text})

    async def _tail(self, request):
        self.connections += 1
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        end = self.breaks.pop(0) if self.breaks else len(self.text)
        for at in range(0, end, 7):
            await connection.send_str(self.text[at : min(at + 7, end)])
        if end < len(self.text):
            request.transport.abort()
        else:
            self.is_over = True
            await connection.close()
        return connection

    async def _stop(self, request):
        was_running = not self.is_over
        self.is_over, self.state = True, "STOPPED" if was_running else self.state
        return web.json_response({"stopped": was_running})
