"""A local server that implements the necessary part of the Hugging Face Hub's protocol."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Stores repositories in memory; writing, and reading private ones, needs the token.

    Files of the repositories in ``broken`` are sent by half before the connection is closed.
    """

    protocol_version = "HTTP/1.1"
    token = "hf_letmein"
    commit = "0123456789abcdef0123456789abcdef01234567"
    revisions = ("main", "v1", commit)
    address: str
    repositories: dict[str, dict[str, bytes]]
    private: set[str]
    broken: set[str]
    requested: list[str]
    commits: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requested.append(f"POST {self.path}")
        if not self._is_authorised():
            return self._send(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request.get('organization') or 'me'}/{request['name']}"
            self.repositories.setdefault(name, {})
            if request.get("private") or request.get("visibility") == "private":
                self.private.add(name)
            return self._send(200, {"url": f"http://{self.headers['Host']}/{name}", "name": name, "id": name})
        name = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self._send(200, {"files": files})
        if "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            for line in lines:
                if line["key"] == "file":
                    self.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.commits.append({"path": self.path, **lines[0]["value"]})
            url = f"http://{self.headers['Host']}/{name}"
            commit = {"commitUrl": f"{url}/commit/{self.commit}", "commitOid": self.commit}
            return self._send(200, {**commit, "pullRequestUrl": f"{url}/discussions/1"})
        return self._send(200, {})

    def do_GET(self) -> None:
        self.requested.append(f"{self.command} {self.path}")
        parts = self.path.split("?")[0].strip("/").split("/")
        is_api = parts[0] == "api"
        name = "/".join(parts[2:4] if is_api else parts[:2])
        files = self.repositories.get(name)
        if files is None or (name in self.private and not self._is_authorised()):
            return self._send(404, {}, {"X-Error-Code": "RepoNotFound"})
        if "tree" in parts:
            listed = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ]
            return self._send(200, listed)
        if "revision" in parts and parts[-1] not in self.revisions:
            return self._send(404, {}, {"X-Error-Code": "RevisionNotFound"})
        if is_api:
            siblings = [{"rfilename": path} for path in files]
            return self._send(200, {"id": name, "sha": self.commit, "siblings": siblings})
        if parts[2:4] != ["resolve", self.commit] or parts[-1] not in files:
            return self._send(404, {}, {"X-Error-Code": "EntryNotFound"})
        data = files[parts[-1]]
        headers = {"X-Repo-Commit": self.commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        return self._send(200, data, headers, is_broken=name in self.broken)

    do_HEAD = do_GET

    def _is_authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.token}"

    def _send(
        self, code: int, content: object, headers: dict[str, str] | None = None, *, is_broken: bool = False
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for key, value in {"Content-Length": str(len(data)), "Content-Type": kind, **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[: len(data) // 2] if is_broken else data)
        if is_broken:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[type[FakeHub]]:
    """A running server without repositories; its class holds the state."""
    state = {"repositories": {}, "private": set(), "broken": set(), "requested": [], "commits": []}
    handler = type("Hub", (FakeHub,), state)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        handler.address = f"http://127.0.0.1:{server.server_port}"
        yield handler
        server.shutdown()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the Hub client's cache and settings."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def run_hub_client(home: Path) -> Callable[..., list[dict[str, Any]]]:
    """Runs a script on queries in a subprocess, because the Hub's client reads its settings on import."""

    def run(script: str, *queries: Any, endpoint: str, **environment: str) -> list[dict[str, Any]]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
        completed = subprocess.run(
            [sys.executable, "-c", script, json.dumps(queries)],
            env={**inherited, **settings, "NO_PROXY": "127.0.0.1", **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert completed.returncode == 0, completed.stderr
        return [json.loads(line) for line in completed.stdout.splitlines()]

    return run
