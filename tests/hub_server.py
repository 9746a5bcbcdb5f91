"""A small server that speaks as the Hugging Face hub does, for its own library to download from."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

REPOSITORY = "someone/model"
REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000
"""Bytes from which on a file is kept apart from git, and known by its SHA-256."""


@dataclass
class Hub:
    """files: content by path. stated: digests that differ from the content's. ranges: what was asked for in part."""

    files: dict[str, bytes]
    stated: dict[str, str] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)
    url: str = ""

    def digest(self, path: str) -> str:
        content = self.files[path]
        if len(content) >= LARGE:
            return self.stated.get(path, hashlib.sha256(content).hexdigest())
        return self.stated.get(path, hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest())

    def sibling(self, path: str) -> dict[str, Any]:
        size, digest = len(self.files[path]), self.digest(path)
        told = {"rfilename": path, "size": size, "blobId": digest}
        return told | ({"lfs": {"sha256": digest, "size": size, "pointerSize": 100}} if size >= LARGE else {})

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": path, "size": len(content), "oid": self.digest(path)}
            for path, content in self.files.items()
        ]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub, at its url."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def answer(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
                return self.answer(200, json.dumps(hub.tree()).encode(), Content_Type="application/json")
            if path.startswith(f"/api/models/{REPOSITORY}"):
                about = {"id": REPOSITORY, "sha": REVISION, "siblings": list(map(hub.sibling, hub.files))}
                return self.answer(200, json.dumps(about).encode(), Content_Type="application/json")
            name = path.removeprefix(f"/{REPOSITORY}/resolve/{REVISION}/")
            if name not in hub.files:
                return self.answer(404, b"", X_Error_Code="RepoNotFound")
            content, headers = hub.files[name], {"ETag": f'"{hub.digest(name)}"', "X_Repo_Commit": REVISION}
            asked = self.headers.get("Range")
            if asked is None or self.command == "HEAD":
                return self.answer(200, content, Accept_Ranges="bytes", **headers)
            hub.ranges.append(asked)
            start, last = map(int, asked.removeprefix("bytes=").split("-"))
            piece = content[start : last + 1]
            span = f"bytes {start}-{start + len(piece) - 1}/{len(content)}"
            return self.answer(206, piece, Content_Range=span, **headers)

        def do_HEAD(self) -> None:
            self.do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
