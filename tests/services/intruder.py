"""What another process can ask of a listener with nothing but a socket: a call of gRPC, a request of HTTP."""

import http.client
import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _HEADERS, _DATA = 4, 1, 0
_END_STREAM, _END_HEADERS = 1, 4
_EMPTY_MESSAGE = b"\0\0\0\0\0"

UNAUTHENTICATED, UNIMPLEMENTED = "16", "12"


def grpc_status(port, method, token=None, timeout=30.0):
    """The status that a listener of gRPC answers a method with; None of one that does not speak it."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    if token:
        headers.append(("authorization", f"Bearer {token}"))
    request = _PREFACE + _frame(_SETTINGS, 0, 0, b"")
    request += _frame(_HEADERS, _END_HEADERS, 1, b"".join(_field(*header) for header in headers))
    request += _frame(_DATA, _END_STREAM, 1, _EMPTY_MESSAGE)
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(request)
        answer = b""
        while True:
            received = connection.recv(65536)
            if not received:
                return None
            answer += received
            _, name, value = answer.partition(b"grpc-status")
            if name and len(value) > value[0]:
                return value[1 : 1 + value[0]].decode()


def http_status(port, path, token=None, timeout=30.0, method="POST"):
    """The status that a listener of HTTP answers with; None of one that does not speak it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, headers={"authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status
    except (http.client.HTTPException, ConnectionError):
        return None
    finally:
        connection.close()


def tells_numbers(port):
    """Whether a listener is one of those that tell Prometheus numbers, and does nothing else."""
    return http_status(port, "/metrics", method="GET") == 200


def _frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _field(name, value):
    """A header in HPACK, neither indexed nor compressed."""
    return b"\0" + _text(name) + _text(value)


def _text(text):
    length = len(text)
    if length < 127:
        return bytes([length]) + text.encode()
    assert length < 127 + 128
    return bytes([127, length - 127]) + text.encode()
