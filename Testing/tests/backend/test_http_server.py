"""The server as seen by everybody who is not the client: strangers, browsers, broken programs."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.backend import http_server
from medseg.backend.encoding import encode_volume
from medseg.backend.http_server import WorkerServer
from medseg.backend.service import Service
from medseg.errors import WorkerError
from medseg.volumes import Geometry, Volume
from support.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "a-token-of-the-test-with-umlaut-ä"
ADDRESS = "ab" * 32
fuzzing = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerServer]:
    """A server in this process, whose computing process ends as soon as it is started."""
    service = Service(tmp_path_factory.mktemp("run"), [sys.executable, "-c", "raise SystemExit(5)"])
    server = WorkerServer(service, TOKEN)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    service.close()


def ask(
    server: WorkerServer,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    token: str | None = TOKEN,
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = b"Bearer " + token.encode()  # type: ignore[assignment]
    connection.request(method, path, body=body, headers=sent)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    if response.headers["Content-Type"] != "application/json":
        return response.status, data
    return response.status, json.loads(data) if data else None


def is_well(server: WorkerServer) -> bool:
    status, health = ask(server, "GET", "/health")
    return status == 200 and health["protocol"] == 1


def raw(server: WorkerServer, data: bytes) -> bytes:
    """Send bytes as they are; return what comes back until the server closes or falls silent."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                received += part
        except ConnectionError:
            pass
        return received


def test_health_is_told_to_who_knows_the_token(server: WorkerServer) -> None:
    assert is_well(server)


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "ä"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/health"), ("GET", "/models"), ("PUT", f"/volumes/{ADDRESS}"), ("POST", "/jobs"), ("GET", "/nothing")],
)
def test_nobody_else_is_told_anything(server: WorkerServer, token: str | None, method: str, path: str) -> None:
    status, answer = ask(server, method, path, b"{}", token=token)
    assert status == 401
    assert set(answer) == {"error"}


def test_the_token_is_asked_for_with_its_scheme(server: WorkerServer) -> None:
    headers = {"Authorization": b"Basic " + TOKEN.encode()}
    assert ask(server, "GET", "/health", headers=headers, token=None)[0] == 401  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "[::1]:{port}"]
)
def test_a_page_that_calls_us_under_another_name_is_refused(server: WorkerServer, host: str) -> None:
    status, _ = ask(server, "GET", "/health", headers={"Host": host.format(port=server.server_port)})
    assert status == 421


def test_localhost_is_a_name_of_ours(server: WorkerServer) -> None:
    assert ask(server, "GET", "/health", headers={"Host": f"localhost:{server.server_port}"})[0] == 200


def test_the_server_listens_on_this_machine_only(server: WorkerServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_short_token_is_not_accepted_at_all(server: WorkerServer) -> None:
    with pytest.raises(WorkerError, match="too short"):
        WorkerServer(server.service, "short")


def test_answers_are_not_kept_by_anybody(server: WorkerServer) -> None:
    host = f"Host: localhost:{server.server_port}"
    answer = raw(server, f"GET /health HTTP/1.0\r\n{host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    assert b"Cache-Control: no-store" in answer
    assert b"Python" not in answer.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/jobs", 405),
        ("POST", "/health", 405),
        ("GET", "/volumes/" + ADDRESS, 405),
        ("GET", "/volumes/../../etc/passwd", 404),
        ("GET", "/jobs/0123456789abcdef", 404),
        ("GET", "/jobs/0123456789abcdef/result", 404),
        ("DELETE", "/jobs/0123456789abcdef", 404),
        ("GET", "/jobs/0123456789abcdef?since=x", 400),
        ("GET", "/jobs/0123456789abcdef?wait_ms=99999999999999", 400),
        ("GET", "/health?" + "&".join(f"a{i}=1" for i in range(20)), 400),
        ("HEAD", "/volumes/" + ADDRESS, 404),
        ("PATCH", "/health", 501),
    ],
)
def test_what_is_not_there_is_said_not_to_be_there(server: WorkerServer, method: str, path: str, status: int) -> None:
    assert ask(server, method, path)[0] == status


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"NaN1"])
def test_what_is_not_json_is_refused(server: WorkerServer, body: bytes) -> None:
    assert ask(server, "POST", "/jobs", body)[0] == 400
    assert is_well(server)


def test_too_much_json_is_refused_unread(server: WorkerServer) -> None:
    assert ask(server, "POST", "/jobs", headers={"Content-Length": str(2 << 20)})[0] == 413


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 20, "0x10"])
def test_a_length_that_is_no_number_is_refused(server: WorkerServer, length: str) -> None:
    assert ask(server, "POST", "/jobs", headers={"Content-Length": length})[0] == 400


def test_a_volume_without_end_is_refused(server: WorkerServer) -> None:
    headers = {"Transfer-Encoding": "chunked"}
    assert ask(server, "PUT", f"/volumes/{ADDRESS}", b"0\r\n\r\n", headers)[0] == 411


def test_a_volume_that_is_too_large_is_refused_unread(server: WorkerServer) -> None:
    assert ask(server, "PUT", f"/volumes/{ADDRESS}", headers={"Content-Length": str(1 << 40)})[0] == 413


def test_a_volume_can_be_put_twice_and_is_there(server: WorkerServer) -> None:
    array = np.zeros((64, 64, 64), np.int16)
    parcel = encode_volume(Volume(array, Geometry.from_spacing(array.shape)))
    path, data = f"/volumes/{parcel.sha256()}", b"".join(parcel.chunks())
    assert ask(server, "HEAD", path)[0] == 404
    assert ask(server, "PUT", path, data)[0] == 201
    assert ask(server, "PUT", path, data)[0] == 201
    assert ask(server, "HEAD", path)[0] == 200


def test_a_volume_under_a_wrong_address_is_refused(server: WorkerServer) -> None:
    array = np.zeros((2, 2, 2), np.int16)
    data = b"".join(encode_volume(Volume(array, Geometry.from_spacing(array.shape))).chunks())
    status, answer = ask(server, "PUT", f"/volumes/{ADDRESS}", data)
    assert status == 422
    assert "damaged on its way" in answer["error"]["message"]


def test_a_job_whose_volume_is_not_there_is_told_which_one(server: WorkerServer) -> None:
    request = {"verb": "segment", "model": "m", "volumes": [ADDRESS]}
    status, answer = ask(server, "POST", "/jobs", json.dumps(request).encode())
    assert (status, answer["missing"]) == (409, [ADDRESS])


def test_a_connection_serves_several_requests_also_after_a_refusal(server: WorkerServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    headers = {"Authorization": b"Bearer " + TOKEN.encode()}
    for path, status in (("/nothing", 404), ("/health", 200), ("/jobs/0123456789abcdef", 404), ("/health", 200)):
        connection.request("POST" if status == 404 else "GET", path, b"x" * 1000, headers=headers)  # type: ignore[arg-type]
        response = connection.getresponse()
        response.read()
        assert response.status in (status, 405)
    connection.close()


def test_a_result_may_travel_compressed(server: WorkerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"labels " * 100_000
    (tmp_path / "result").write_bytes(data)
    monkeypatch.setattr(server.service, "result", lambda _job: tmp_path / "result")
    path = "/jobs/0123456789abcdef/result"
    assert ask(server, "GET", path) == (200, data)
    status, packed = ask(server, "GET", path, headers={"Accept-Encoding": "deflate;q=1.0, gzip"})
    assert status == 200
    assert len(packed) < len(data) / 50
    assert zlib.decompress(packed) == data


def test_too_many_connections_do_not_use_up_the_server(server: WorkerServer) -> None:
    idle = [
        socket.create_connection(("127.0.0.1", server.server_port), timeout=30)
        for _ in range(http_server.MAXIMUM_CONNECTIONS + 8)
    ]
    # The ones above the limit are closed at once; reading from them gives an end.
    assert idle[-1].recv(1) == b""
    for connection in idle:
        connection.close()

    def answers() -> bool:
        try:
            return is_well(server)
        except (ConnectionError, http.client.HTTPException):
            return False

    until(answers, "an answer after the crowd has gone")


def test_an_estimate_that_cannot_be_made_says_why(server: WorkerServer) -> None:
    status, answer = ask(server, "POST", "/estimate", b"{}")
    assert status == 500
    assert "exit code 5" in answer["error"]["message"]


def test_nothing_is_written_about_requests(server: WorkerServer, capfd: pytest.CaptureFixture[str]) -> None:
    ask(server, "GET", "/health", headers={"X-Patient": "Doe^Jane"})
    raw(server, b"Doe Jane\r\n\r\n")
    raw(server, b"\x16\x03\x01 a TLS greeting")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
requests = json_values | st.fixed_dictionaries(
    {},
    optional={
        "verb": st.just("segment") | json_values,
        "model": st.text(max_size=10) | json_values,
        "options": json_values,
        "volumes": st.lists(st.just(ADDRESS) | json_values, max_size=10) | json_values,
    },
)


@fuzzing
@given(body=requests)
def test_no_request_for_a_job_is_taken_for_a_defect(server: WorkerServer, body: Any) -> None:
    status, answer = ask(server, "POST", "/jobs", json.dumps(body).encode())
    assert status in (409, 422)
    assert answer["error"]["message"]


@fuzzing
@given(data=st.binary(max_size=300) | st.binary(max_size=60).map(lambda part: b"GET /" + part + b" HTTP/1.1\r\n\r\n"))
def test_no_bytes_end_the_server(server: WorkerServer, data: bytes) -> None:
    raw(server, data)
    assert is_well(server)


@fuzzing
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    path=st.sampled_from(
        ["/health", "/jobs", "/jobs/0123456789abcdef", f"/volumes/{ADDRESS}", "/estimate", "/warm-up"]
    ),
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
    body=st.binary(max_size=300),
)
def test_no_request_with_the_token_ends_the_server(
    server: WorkerServer, method: str, path: str, query: str, body: bytes
) -> None:
    status, answer = ask(server, method, f"{path}?{query}", body)
    assert status < 500 or (path == "/estimate" and "defect" not in answer["error"]["message"])
    assert is_well(server)
