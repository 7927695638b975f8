"""Downloads from a real server that breaks, stalls and lies."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medseg.errors import Cancelled, InputError, WriteError
from medseg.models import download
from medseg.models.checksums import Checksum
from medseg.models.download import DownloadError, Patience, Remote, downloaded, downloads_folder
from medseg.progress import Progress
from support.web_server import NAME, Answer, Proxy, WebServer, forbid_connections

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = bytes(range(256)) * 1200
SHA256 = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest())
IMPATIENT = Patience(seconds=1.0, attempts=3, pause=0.01)


@pytest.fixture
def a_server() -> Iterator[WebServer]:
    server = WebServer(CONTENT)
    yield server
    server.close()


def get(server: WebServer, *more: str, checksum: Checksum | None = SHA256, size: int | None = None, **options) -> bytes:
    """Download the file and return what came; the folder of downloads must be empty afterwards."""
    with downloaded(Remote((server.address, *more), size, checksum), patience=IMPATIENT, **options) as path:
        content = path.read_bytes()
    assert leftovers() == []
    return content


def leftovers() -> list[Path]:
    return [path for path in downloads_folder().rglob("*") if path.is_file() and path.name != "lock"]


@pytest.fixture
def an_interrupted_download(a_server: WebServer) -> WebServer:
    """A server from which the first 100 000 bytes came, before the user gave up."""

    def at_100_000(fraction: float, _text: str) -> None:
        seen.append(fraction)

    seen: list[float] = []
    a_server.answers = [Answer(stall_after=100_000)]
    progress = Progress(at_100_000, lambda: any(fraction > 0.3 for fraction in seen))
    with pytest.raises(Cancelled):
        get(a_server, progress=progress)
    assert 90_000 < next(path for path in leftovers() if path.name == NAME).stat().st_size < len(CONTENT)
    a_server.seen.clear()
    return a_server


def test_a_file_comes_whole_and_its_progress_is_told(a_server: WebServer) -> None:
    told: list[tuple[float, str]] = []
    assert get(a_server, progress=Progress(lambda *what: told.append(what))) == CONTENT
    fractions = [fraction for fraction, _text in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any("of 0.3 MB" in text for _fraction, text in told)
    assert a_server.seen[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("kind", ["sha256", "sha1", "md5"])
def test_every_published_kind_of_checksum_is_compared(a_server: WebServer, kind: str) -> None:
    right = Checksum(kind, hashlib.new(kind, CONTENT).hexdigest())
    wrong = Checksum(kind, hashlib.new(kind, b"other").hexdigest())
    assert get(a_server, checksum=right) == CONTENT
    with pytest.raises(DownloadError, match=right.title):
        get(a_server, checksum=wrong)
    assert leftovers() == []


def test_a_broken_connection_is_taken_up_where_it_ended(a_server: WebServer) -> None:
    a_server.answers = [Answer(break_after=100_000), Answer(break_after=50_000)]
    assert get(a_server) == CONTENT
    assert a_server.asked_ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_silent_server_is_left_and_asked_again(a_server: WebServer) -> None:
    a_server.answers = [Answer(stall_after=100_000)]
    assert get(a_server) == CONTENT
    assert a_server.asked_ranges == [None, "bytes=100000-"]


def test_a_server_that_stays_silent_ends_in_a_sentence(a_server: WebServer) -> None:
    a_server.answers = [Answer(stall_after=0)] * 4
    with pytest.raises(DownloadError, match="silent for"):
        get(a_server)


def test_a_later_process_goes_on_where_an_earlier_one_ended(an_interrupted_download: WebServer) -> None:
    assert get(an_interrupted_download) == CONTENT
    (asked,) = an_interrupted_download.asked_ranges
    assert asked is not None
    assert an_interrupted_download.seen[0].headers["If-Range"] == an_interrupted_download.etag


@pytest.mark.parametrize("checksum", [SHA256, None])
def test_a_file_that_was_changed_meanwhile_is_fetched_from_its_start(
    an_interrupted_download: WebServer, checksum: Checksum | None
) -> None:
    changed = an_interrupted_download.content = CONTENT[::-1]
    if checksum is not None:
        checksum = Checksum("sha256", hashlib.sha256(changed).hexdigest())
    assert get(an_interrupted_download, checksum=checksum) == changed


def test_a_server_that_mixes_two_versions_is_found_out_by_the_etag(an_interrupted_download: WebServer) -> None:
    """It gives the rest of another version in spite of If-Range."""
    old = an_interrupted_download.etag
    an_interrupted_download.content = CONTENT[::-1]
    an_interrupted_download.answers = [Answer(status=206, range_text="", ignore_range=True)]
    start = next(path for path in leftovers() if path.name == NAME).stat().st_size
    an_interrupted_download.answers[0].range_text = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    an_interrupted_download.answers[0].content = b"x" * start + CONTENT[::-1][start:]
    assert get(an_interrupted_download, checksum=None) == CONTENT[::-1]
    assert an_interrupted_download.etag != old


@pytest.mark.parametrize(
    "lie",
    [
        Answer(shift=7),
        Answer(range_text="bytes 0-9/10"),
        Answer(range_text="nonsense"),
        Answer(range_text=f"bytes 100000-{len(CONTENT)}/{len(CONTENT) + 1}"),
        Answer(status=416, range_text="bytes */5"),
    ],
    ids=["another part", "another file", "nonsense", "another size", "no such part"],
)
def test_wrong_answers_to_a_request_for_a_part_begin_the_download_anew(a_server: WebServer, lie: Answer) -> None:
    a_server.answers = [Answer(break_after=100_000), lie]
    assert get(a_server, checksum=None) == CONTENT
    assert a_server.asked_ranges == [None, "bytes=100000-", None]


def test_a_server_that_answers_every_request_with_a_part_is_refused(a_server: WebServer) -> None:
    a_server.answers = [Answer(status=206, range_text="bytes 0-9/10")] * 9
    with pytest.raises(DownloadError, match="part of the file"):
        get(a_server)


def test_a_server_that_ignores_ranges_gives_the_whole_file(a_server: WebServer) -> None:
    a_server.answers = [Answer(break_after=100_000), Answer(ignore_range=True)]
    assert get(a_server) == CONTENT


def test_wrong_bytes_are_not_accepted(a_server: WebServer) -> None:
    a_server.answers = [Answer(content=CONTENT[::-1])]
    with pytest.raises(DownloadError, match="its SHA-256 is another"):
        get(a_server)
    assert leftovers() == []


def test_a_resumed_file_that_does_not_fit_is_fetched_once_more(a_server: WebServer) -> None:
    a_server.tags = False
    a_server.answers = [Answer(content=CONTENT[::-1], break_after=100_000)]
    assert get(a_server) == CONTENT
    assert a_server.asked_ranges == [None, "bytes=100000-", None]


def test_without_a_mark_of_the_version_and_a_checksum_nothing_is_resumed(a_server: WebServer) -> None:
    a_server.tags = False
    a_server.answers = [Answer(break_after=100_000)]
    assert get(a_server, checksum=None) == CONTENT
    assert a_server.asked_ranges == [None, None]


def test_a_size_that_is_not_the_published_one_is_refused_before_the_download(a_server: WebServer) -> None:
    with pytest.raises(DownloadError, match=f"{len(CONTENT)} bytes there instead of 12"):
        get(a_server, checksum=None, size=12)


def test_a_claim_of_more_bytes_than_come_ends_in_a_sentence(a_server: WebServer) -> None:
    a_server.answers = [Answer(length=len(CONTENT) + 5, break_after=len(CONTENT), ignore_range=True)] * 9
    with pytest.raises(DownloadError, match="the connection ended after"):
        get(a_server, checksum=None)


def test_a_file_without_a_length_comes_and_one_that_goes_on_too_long_does_not(a_server: WebServer) -> None:
    a_server.answers = [Answer(length=False)]
    assert get(a_server) == CONTENT
    a_server.answers = [Answer(length=False, content=CONTENT + b"more")] * 9
    with pytest.raises(DownloadError, match="more than the file has"):
        get(a_server, checksum=None, size=len(CONTENT))


def test_an_answer_that_is_packed_without_being_asked_for_is_refused(a_server: WebServer) -> None:
    a_server.answers = [Answer(headers={"Content-Encoding": "gzip"})]
    with pytest.raises(DownloadError, match="packed"):
        get(a_server)


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (503, 3)])
def test_a_refusal_is_final_and_a_busy_server_is_asked_again(a_server: WebServer, status: int, requests: int) -> None:
    a_server.answers = [Answer(status=status)] * 5
    with pytest.raises(DownloadError, match=f"answers {status}"):
        get(a_server)
    assert len(a_server.seen) == requests


def test_a_mirror_is_tried_next_and_goes_on_where_the_first_ended(a_server: WebServer) -> None:
    mirror = WebServer(CONTENT)
    try:
        a_server.answers = [Answer(break_after=100_000), Answer(status=404)]
        assert get(a_server, f"{mirror.root}/elsewhere/{NAME}") == CONTENT
        assert mirror.asked_ranges == ["bytes=100000-"]
    finally:
        mirror.close()


def test_the_mirror_of_the_house_comes_first(a_server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = WebServer(CONTENT)
    monkeypatch.setenv("MEDSEG_MIRROR", f"{mirror.root}/models/")
    try:
        assert get(a_server) == CONTENT
        assert [seen.path for seen in mirror.seen] == [f"/models/{NAME}"]
        assert a_server.seen == []
    finally:
        mirror.close()


def test_the_proxy_of_the_environment_is_used(a_server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy(a_server)
    monkeypatch.setenv("http_proxy", proxy.address)
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    address = f"http://models.invalid/{NAME}"
    try:
        with downloaded(Remote((address,), checksum=SHA256), patience=IMPATIENT) as path:
            assert path.read_bytes() == CONTENT
        assert proxy.asked == [address]
    finally:
        proxy.close()


def test_offline_means_that_nobody_is_asked(a_server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"MEDSEG_OFFLINE.*another computer"):
        get(a_server)
    assert a_server.seen == []


def test_no_network_ends_in_a_sentence(a_server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = forbid_connections(monkeypatch.setattr)
    with pytest.raises(DownloadError, match=r"no connection.*with a browser"):
        get(a_server)
    assert len(attempts) == IMPATIENT.attempts


def test_a_redirection_is_followed_but_not_out_of_encryption(a_server: WebServer) -> None:
    a_server.answers = [Answer(status=302, headers={"Location": f"/elsewhere/{NAME}"})]
    assert get(a_server) == CONTENT
    a_server.answers = [Answer(status=302, headers={"Location": "ftp://127.0.0.1/model.zip"})]
    with pytest.raises(DownloadError, match="not encrypted"):
        get(a_server)


def test_addresses_without_encryption_need_a_sha256() -> None:
    address = "http://example.org/model.zip"
    download.check_address("https://example.org/model.zip", None)
    download.check_address(address, SHA256)
    for checksum in (None, Checksum("md5", "0" * 32)):
        with pytest.raises(InputError, match="not encrypted"):
            download.check_address(address, checksum)
    for wrong in (
        "",
        "model.zip",
        "ftp://example.org/a",
        "file:///etc/passwd",
        "https://",
        "https://a b/c",
        "https://[",
    ):
        with pytest.raises(InputError, match="no address"):
            download.check_address(wrong, SHA256)


def test_cancelling_takes_effect_although_the_server_is_silent(a_server: WebServer) -> None:
    a_server.answers = [Answer(stall_after=1000)]
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    begun = time.monotonic()
    remote = Remote((a_server.address,), checksum=SHA256)
    with pytest.raises(Cancelled), downloaded(remote, progress=Progress(cancelled=cancelled.is_set)):
        pass
    assert time.monotonic() - begun < 10.0, "far below the 30 s that a silent server is waited for"


def test_a_full_disk_is_told_and_given_back(a_server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written goes to a device that is always full."""
    folder = downloads_folder() / hashlib.sha256(a_server.address.encode()).hexdigest()[:16]
    folder.mkdir(parents=True)
    discard = download.PartialFile.discard

    def discard_and_fill(file: download.PartialFile) -> None:
        discard(file)
        if Path("/dev/full").exists() and not a_server.seen[1:]:
            file.path.symlink_to("/dev/full")

    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    monkeypatch.setattr(download.PartialFile, "discard", discard_and_fill)
    with pytest.raises(WriteError, match="disk is full"):
        get(a_server)
    monkeypatch.undo()


def test_too_little_space_is_told_before_the_download(a_server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_SPARE", 1 << 60)
    with pytest.raises(WriteError, match="needs"):
        get(a_server)
    assert [path for path in leftovers() if path.name == NAME] == []


def test_what_nobody_went_on_with_for_long_is_removed(
    an_interrupted_download: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_OLD_SECONDS", -1)
    other = WebServer(CONTENT)
    try:
        assert get(other) == CONTENT
    finally:
        other.close()


def test_one_file_is_not_downloaded_twice_at_once(a_server: WebServer) -> None:
    remote = Remote((a_server.address,), checksum=SHA256)
    with (
        downloaded(remote, patience=IMPATIENT),
        pytest.raises(WriteError, match="being downloaded already"),
        downloaded(remote, patience=IMPATIENT),
    ):
        pass


def test_what_came_is_kept_when_its_use_fails(a_server: WebServer) -> None:
    remote = Remote((a_server.address,), checksum=SHA256)
    with pytest.raises(RuntimeError), downloaded(remote, patience=IMPATIENT):
        raise RuntimeError
    assert get(a_server) == CONTENT
    assert len(a_server.seen) == 1


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://example.org/a/model.zip?download=1", "model.zip"),
        ("https://example.org/a/..%2f..%2fevil.zip", "_.._evil.zip"),
        ("https://example.org/", "download"),
        ("https://example.org/a%20b.zip", "a_b.zip"),
    ],
)
def test_the_name_of_the_file_cannot_lead_elsewhere(address: str, name: str) -> None:
    assert Remote((address,)).name == name


def test_a_certificate_that_nobody_vouches_for_is_refused(a_server: WebServer, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("a certificate is made with openssl, which is not here")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    a_server.encrypt(certificate, key)
    with pytest.raises(DownloadError, match=r"certificate cannot be trusted.*SSL_CERT_FILE"):
        get(a_server)
    assert a_server.seen == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate))
        assert get(a_server) == CONTENT
