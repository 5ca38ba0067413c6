"""A hub of models on loopback: the few routes of the Hugging Face Hub that a pull uses, and how they fail."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "c0ffee" * 6 + "c0ff"


class Loopback:
    """A server on loopback while a block of ``with`` lasts; a hub says what it answers in ``answered``."""

    def answered(self, request: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def __enter__(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handled(self):
                hub.answered(self)

            do_GET = do_POST = do_HEAD = handled

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def send(self, request, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)


class FakeHub(Loopback):
    """Holds files by repository and name, and serves them with ranges.

    ``cuts`` is used up one a download: after how many bytes the connection breaks. ``told_sha256`` is said in the place
    of a file's own. ``token`` is wanted if it is set; ``code`` is why one without it is refused. ``stalls`` keeps a
    download open, unfinished, until it is set again.
    """

    def __init__(self):
        self.files: dict[str, dict[str, bytes]] = {}
        self.cuts: list[int] = []
        self.told_sha256 = self.token = ""
        self.code, self.refused_with = "GatedRepo", 401
        self.cdn = ""
        self.stalls: threading.Event | None = None
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    @property
    def downloads(self) -> list[dict[str, str]]:
        """The headers of each request for a file."""
        return [headers for method, path, headers in self.requests if "/resolve/" in path or "/cdn/" in path]

    def __exit__(self, *_):
        if self.stalls is not None:
            self.stalls.set()
        super().__exit__()

    def answered(self, request) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.command, request.path, headers))
        self.answer(request)

    def answer(self, request) -> None:
        path = request.path.partition("?")[0]
        repository = "/".join(path.removeprefix("/api/models").strip("/").split("/")[:2])
        if self.token and "/cdn/" not in path and request.headers.get("authorization") != f"Bearer {self.token}":
            self.send(request, self.refused_with, b'{"error": "no"}', {"X-Error-Code": self.code})
        elif path.startswith("/api/models/") and repository in self.files:
            self.send(request, 200, json.dumps(self.listed(repository)).encode())
        elif "/resolve/" in path and self.cdn:
            name = path.partition(f"/resolve/{REVISION}/")[2]
            self.send(request, 302, b"", {"Location": f"{self.cdn}/{repository}/cdn/{name}"})
        elif repository in self.files and ("/resolve/" in path or "/cdn/" in path):
            name = path.partition("/cdn/")[2] or path.partition(f"/resolve/{REVISION}/")[2]
            self.send_file(request, self.files[repository][name])
        else:
            self.send(request, 404, b'{"error": "no"}', {"X-Error-Code": "RepoNotFound"})

    def listed(self, repository: str) -> dict:
        siblings = []
        for name, content in self.files[repository].items():
            sha256 = self.told_sha256 or hashlib.sha256(content).hexdigest()
            stored = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append({"rfilename": name, "size": len(content), "blobId": "0" * 40, "lfs": stored})
        return {"id": repository, "modelId": repository, "sha": REVISION, "siblings": siblings, "tags": []}

    def send_file(self, request, content: bytes) -> None:
        begun = int((request.headers.get("range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        request.send_response(206 if begun else 200)
        request.send_header("Content-Length", str(len(content) - begun))
        if begun:
            request.send_header("Content-Range", f"bytes {begun}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        if self.stalls is not None and not self.stalls.is_set():
            request.wfile.write(content[begun : len(content) // 2])
            self.stalls.wait(60)
            request.close_connection = True
        elif self.cuts:
            request.wfile.write(content[begun : self.cuts.pop(0)])
            request.close_connection = True
        else:
            request.wfile.write(content[begun:])
