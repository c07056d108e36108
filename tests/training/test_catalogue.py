"""Downloads, against a server of our own on loopback that can break off."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from secateur.errors import DataError, UsageError
from secateur.training.catalogue import EXTRACTED_SUMS, RemoteFile, Source, fetch, find_source, locate, provenance

CONTENT = bytes(range(256)) * 8000


class Server:
    """Serves files by name; the first `breaks` answers end half way."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks = 0
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                return None

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        content = self.files.get(request.path.strip("/"))
        if content is None:
            request.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        broken, self.breaks = self.breaks > 0, self.breaks - 1
        request.wfile.write(content[start : (start + len(content)) // 2 if broken else None])


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever)
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


def plain_source(server: Server, content: bytes = CONTENT) -> Source:
    server.files["a.bin"] = CONTENT
    md5 = hashlib.md5(content).hexdigest()
    return Source("set", "", "set", (RemoteFile("a.bin", f"{server.url}/a.bin", md5, md5),), ("a.bin",))


def archive_source(server: Server) -> Source:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("set/x.bin", "set/y.bin", "../../evil", "set/readme"):
            entry = tarfile.TarInfo(name)
            entry.size = len(CONTENT)
            tar.addfile(entry, io.BytesIO(CONTENT))
    server.files["a.tar.gz"] = packed.getvalue()
    md5 = hashlib.md5(packed.getvalue()).hexdigest()
    return Source("set", "", "set", (RemoteFile("a.tar.gz", f"{server.url}/a.tar.gz", md5),), ("x.bin", "y.bin"))


def test_a_download_is_checked_and_not_repeated(server: Server, tmp_path: Path) -> None:
    source = plain_source(server)
    seen: list[int] = []
    folder = fetch(source, tmp_path, lambda name, have, total: seen.append(have))
    assert (folder / "a.bin").read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT)
    assert provenance(source, folder) == "the publisher's content (MD5 sums match)"
    fetch(source, tmp_path)
    assert len(server.ranges) == 1
    assert [path.name for path in folder.iterdir()] == ["a.bin"]


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    source = plain_source(server)
    server.breaks = 1
    with pytest.raises(DataError, match="run the same command again to go on"):
        fetch(source, tmp_path)
    assert locate(source, tmp_path) is None
    assert (fetch(source, tmp_path) / "a.bin").read_bytes() == CONTENT
    first, second = server.ranges
    assert first is None
    assert second is not None
    assert 0 <= len(CONTENT) // 2 - int(second.removeprefix("bytes=").rstrip("-")) < 1 << 16


def test_content_with_another_digest_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    source = plain_source(server, content=b"expected this")
    with pytest.raises(DataError, match="does not have the published MD5 sum"):
        fetch(source, tmp_path)
    assert list((tmp_path / "set").iterdir()) == []


def test_only_the_wanted_files_leave_an_archive(server: Server, tmp_path: Path) -> None:
    source = archive_source(server)
    folder = fetch(source, tmp_path / "data")
    assert {path.name for path in folder.iterdir()} == {"x.bin", "y.bin", EXTRACTED_SUMS}
    assert list(tmp_path.rglob("evil")) == []
    assert provenance(source, folder) == "extracted from the publisher's archive (MD5 sum matches)"
    (folder / "y.bin").write_bytes(b"changed")
    assert provenance(source, folder).startswith("files changed since")
    fetch(source, tmp_path / "data")
    assert (folder / "y.bin").read_bytes() == CONTENT


def test_an_address_that_is_gone_is_a_clear_error(server: Server, tmp_path: Path) -> None:
    source = plain_source(server)
    server.files.clear()
    with pytest.raises(DataError, match=r"data 'set': fetching into .* stopped: 404"):
        fetch(source, tmp_path)


def test_embedded_and_unknown_sets_cannot_be_fetched() -> None:
    with pytest.raises(UsageError, match="embedded: there is nothing to fetch"):
        fetch(find_source("digits"))
    with pytest.raises(UsageError, match="data 'svhn': expected one of"):
        find_source("svhn")
