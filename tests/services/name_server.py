"""A DNS server for tests: every name is this machine."""

import contextlib
import socketserver
import struct
import threading
from collections.abc import Iterator

_A = 1  # the kind of question for an IPv4 address


class _Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        asked, socket = self.request
        end = asked.index(b"\0", 12) + 5  # header, name, kind and class of the question
        (kind,) = struct.unpack("!H", asked[end - 4 : end - 2])
        answers = 1 if kind == _A else 0
        header = asked[:2] + struct.pack("!HHHHH", 0x8180, 1, answers, 0, 0)
        # the name is that of the question; for a second it is 127.0.0.1
        answer = struct.pack("!HHHIH4B", 0xC00C, _A, 1, 1, 4, 127, 0, 0, 1) * answers
        socket.sendto(header + asked[12:end] + answer, self.client_address)


@contextlib.contextmanager
def name_server() -> Iterator[int]:
    """The port of loopback where it listens."""
    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
