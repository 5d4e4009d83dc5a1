"""The endpoint's web server under requests that two servers could read in two ways, and under the fuzzer."""

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SECRET, Router

BODY = b'{"event":"newUser","user":{"id":"1"}}'
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: smuggled\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(BODY)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    router = Router(tmp_path_factory.mktemp("wire"), {})
    router.start_web()
    yield router.web_port
    assert "request.failed" not in (router.folder / "web.log").read_text()
    router.close()


def post(*headers: bytes, body: bytes = BODY, path: bytes = b"/webhooks/encharge") -> bytes:
    known = (b"Host: x", b"Authorization: Bearer " + SECRET.encode(), b"Content-Type: application/json")
    return b"\r\n".join((b"POST " + path + b" HTTP/1.1", *known, *headers, b"", body))


def all_answers(port: int, request: bytes) -> list[int]:
    """The status of every answer that comes, until the connection is closed or has been quiet."""
    content = b""
    with socket.create_connection(("127.0.0.1", port), timeout=0.4) as connection, contextlib.suppress(OSError):
        with contextlib.suppress(OSError):  # it may answer and close before it has read all
            connection.sendall(request)
        while piece := connection.recv(65536):
            content += piece
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3})", content, re.MULTILINE)]


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (post(LENGTH), [200]),
        # Both lengths: the server reads chunks and forgets the other; we take no body without a length.
        (post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=CHUNKED + SMUGGLED), [411]),
        (post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=CHUNKED + SMUGGLED), [411]),
        (post(LENGTH, b"Transfer-Encoding: chunked", body=BODY + SMUGGLED), [411]),
        (post(LENGTH, b"Transfer-Encoding: identity", body=BODY + SMUGGLED), [400]),
        (post(LENGTH, b"Transfer-Encoding : chunked", body=BODY + SMUGGLED), [400]),
        (post(LENGTH, b"Transfer-Encoding:\r\n chunked", body=BODY + SMUGGLED), [400]),
        (post(LENGTH, b"Content-Length: 5", body=BODY + SMUGGLED), [400]),
        (post(LENGTH + b", 5", body=BODY + SMUGGLED), [400]),
        (post(b"Content-Length: +%d" % len(BODY)), [400]),
        (post(b"Content-Length: -1"), [400]),
        (post(b"Content-Length: 0x10"), [400]),
        (post(b"Content-Length: 99999999999999999999999"), [400]),
        (post(b"X-A: b\r\n c", LENGTH), [400]),
        (post(b"X-A: a\rTransfer-Encoding: chunked", LENGTH), [400]),
        (post(b"X-A: a\0b", LENGTH), [400]),
        (post(*(b"X-%d: 1" % number for number in range(100)), LENGTH), [431]),
        (post(b"X-A: " + b"a" * 500_000, LENGTH), [431]),
        (post(LENGTH, path=b"/webhooks/encharge/" + b"a" * 70_000), [414]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []),
    ],
)
def test_one_request_is_one_request(port: int, request_: bytes, statuses: list[int]) -> None:
    """What is ambiguous is refused, and what was hidden behind it is not answered."""
    assert all_answers(port, request_) == statuses


def test_the_fuzzer_finds_nothing_in_a_moment(make_router: Callable[..., Router]) -> None:
    """`make fuzz`, for two seconds of one door."""
    program = Path(__file__).resolve().parents[2] / "benchmarks/fuzz.py"
    command = [sys.executable, str(program), "--seconds", "2", "--seed", "1", "--door", "webhooks"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing failed" in done.stdout
