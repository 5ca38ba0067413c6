"""A hub of data sets on loopback: the routes that a push uses, and how they refuse."""

import base64
import hashlib
import json
import re

from hub import Loopback

COMMIT = "beef" * 10
Answer = tuple[int, bytes, dict[str, str]]


class WritableHub(Loopback):
    """Holds data sets by the names of repositories: whether each is private, and its files.

    ``token`` is wanted for all; ``refused_with`` is a status that every commit is answered with if it is set.
    """

    def __init__(self, token: str):
        self.token = token
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.refused_with = 0
        self.requests: list[tuple[str, str]] = []

    def add(self, repository: str, *, private: bool, **files: bytes) -> None:
        self.private[repository], self.files[repository] = private, files

    def answered(self, request) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        self.requests.append((request.command, request.path))
        self.send(request, *self.answer(request.path, body, request.headers.get("authorization")))

    def answer(self, path: str, body: bytes, authorization: str | None) -> Answer:
        def said(status: int, value: object, **headers: str) -> Answer:
            return status, json.dumps(value).encode(), headers

        route = path.partition("?")[0]
        if route == "/api/validate-yaml":
            return said(200, {"errors": [], "warnings": []})
        if authorization != f"Bearer {self.token}":
            return said(401, {"error": "Invalid credentials in Authorization header"})
        if route == "/api/repos/create":
            wanted = json.loads(body)
            repository = f"{wanted['organization']}/{wanted['name']}"
            if wanted["organization"] != "me":
                return said(403, {"error": "no rights"})
            self.add(repository, private=wanted.get("private") or wanted.get("visibility") == "private")
            return said(200, {"url": f"{self.url}/datasets/{repository}", "id": "1"})
        if asked := re.fullmatch(rf"/datasets/([^/]+/[^/]+)/resolve/{COMMIT}/(.+)", route):
            file = self.files[asked[1]][asked[2]]
            etag = hashlib.sha256(file).hexdigest()
            return 200, file, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        repository, _, rest = route.removeprefix("/api/datasets/").partition("/")
        name, _, rest = rest.partition("/")
        repository = f"{repository}/{name}"
        if repository not in self.files:
            return said(404, {"error": "no"}, **{"X-Error-Code": "RepoNotFound"})
        if rest.startswith("preupload/"):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return said(200, {"files": files})
        if rest.startswith("commit/"):
            if self.refused_with:
                return said(self.refused_with, {"error": "no"})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "deletedFile":
                    del self.files[repository][line["value"]["path"]]
                if line["key"] == "file":
                    self.files[repository][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return said(200, {"commitUrl": f"{self.url}/datasets/{repository}/commit/{COMMIT}", "commitOid": COMMIT})
        return said(200, self.told(repository))

    def told(self, repository: str) -> dict:
        siblings = [{"rfilename": name} for name in self.files[repository]]
        return {"id": repository, "sha": COMMIT, "private": self.private[repository], "siblings": siblings, "tags": []}

    @property
    def writes(self) -> list[str]:
        """The paths of what was to change something."""
        return [path for method, path in self.requests if method == "POST" and re.search("/commit/|/create", path)]
