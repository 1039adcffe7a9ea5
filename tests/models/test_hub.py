"""Uploads to and downloads from a local server that implements the necessary part of the Hub's protocol."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork

TOKEN = "hf_letmein"
CONFIG = ModelConfig(
    "shared",
    ("choro", "samba"),
    AudioSpec(sample_rate=8000, window_seconds=1.0, hop_seconds=1.0),
    Component("logmel", {"n_fft": 512, "n_mels": 40, "hop_length": 200}),
    Component("vgg16-slim", {"width": 0.03, "dense_units": 8}),
)
SCRIPT = """
import json, sys
import musgenre
for method, arguments in json.loads(sys.argv[1]):
    try:
        if method == "push":
            model = musgenre.GenreClassifier.from_pretrained(arguments.pop("model"))
            result = {"address": model.push_to_hub(**arguments)}
        else:
            result = {"name": musgenre.GenreClassifier.from_pretrained(**arguments).config.name}
    except musgenre.MusgenreError as error:
        result = {"kind": type(error).__name__, "error": str(error)}
    print(json.dumps(result))
"""


class _Hub(http.server.BaseHTTPRequestHandler):
    """Stores repositories in memory; writing, and reading private ones, needs the token."""

    protocol_version = "HTTP/1.1"
    repositories: dict[str, dict[str, bytes]]
    private: set[str]
    requested: list[str]
    commits: list[dict]
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requested.append(f"POST {self.path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
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
        api = parts[0] == "api"
        name = "/".join(parts[2:4] if api else parts[:2])
        files = self.repositories.get(name)
        if files is None or (name in self.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            return self._send(404, {}, {"X-Error-Code": "RepoNotFound"})
        if "tree" in parts:
            listed = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ]
            return self._send(200, listed)
        if api:
            siblings = [{"rfilename": path} for path in files]
            return self._send(200, {"id": name, "sha": self.commit, "siblings": siblings})
        data = files[parts[-1]]
        return self._send(200, data, {"X-Repo-Commit": self.commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'})

    do_HEAD = do_GET

    def _send(self, code: int, content: object, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for key, value in {"Content-Length": str(len(data)), "Content-Type": kind, **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub():
    state = {"repositories": {}, "private": set(), "requested": [], "commits": []}
    handler = type("Hub", (_Hub,), state)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        handler.address = f"http://127.0.0.1:{server.server_port}"
        yield handler
        server.shutdown()


def _run(hub, home: Path, *queries, **environment) -> list[dict]:
    """Runs in a subprocess, because the Hub's client reads its settings on import."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", SCRIPT, json.dumps(queries)]
    done = subprocess.run(
        command, env={**inherited, **own, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def results(hub, home, tmp_path_factory):
    """Runs all queries with the same environment in one process, because importing takes seconds."""
    model = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    GenreClassifier(GenreNetwork.from_config(CONFIG), CONFIG, device="cpu").save_pretrained(model)
    other = tmp_path_factory.mktemp("cache")
    push = {"model": str(model), "repo_id": "org/shared"}
    secret = {"source": "org/secret", "cache_dir": str(other)}
    queries = {
        "push without token": ("push", {**push, "token": False}),
        "push": ("push", {**push, "token": TOKEN, "commit_message": "First"}),
        "push to a branch": ("push", {**push, "token": TOKEN, "branch": "try"}),
        "push a request": ("push", {**push, "token": TOKEN, "create_pr": True}),
        "push in private": ("push", {**push, "repo_id": "org/secret", "token": TOKEN, "private": True}),
        "private without token": ("load", {**secret, "token": False}),
        "private": ("load", {**secret, "token": TOKEN}),
        "public": ("load", {"source": "org/shared"}),
    }
    return dict(zip(queries, _run(hub, home, *queries.values()), strict=True)) | {"cache": other}


def test_push_creates_the_repository_and_one_commit(results, hub):
    assert results["push"] == {"address": f"{hub.address}/org/shared/commit/{hub.commit}"}
    assert set(hub.repositories["org/shared"]) - {".gitattributes"} == {"config.json", "model.safetensors", "README.md"}
    assert json.loads(hub.repositories["org/shared"]["config.json"])["name"] == "shared"
    assert b"library_name: musgenre" in hub.repositories["org/shared"]["README.md"]
    assert hub.commits[0]["summary"] == "First"
    assert hub.commits[0]["path"].startswith("/api/models/org/shared/commit/main")


def test_push_to_a_branch_and_as_pull_request(results, hub):
    assert "address" in results["push to a branch"]
    assert hub.commits[1]["path"].startswith("/api/models/org/shared/commit/try")
    # The client opens the pull request before or with the commit, depending on its version.
    opened = ("POST /api/models/org/shared/discussions", "POST /api/models/org/shared/commit/main?create_pr=1")
    assert any(line in opened for line in hub.requested)


def test_message_for_a_missing_token(results):
    assert results["push without token"]["kind"] == "WeightsError"
    assert "'org/shared'" in results["push without token"]["error"]
    assert "hf auth login" in results["push without token"]["error"]


def test_pushed_model_is_loaded(results):
    assert results["public"] == {"name": "shared"}


def test_private_model_needs_the_token_and_uses_cache_dir(results):
    assert "org/secret" in results["private without token"]["error"]
    assert results["private"] == {"name": "shared"}
    assert [path.name for path in results["cache"].glob("models--*")] == ["models--org--secret"]


@pytest.mark.slow
def test_offline_sends_no_request(results, hub, home):
    before = len(hub.requested)
    known, unknown = _run(
        hub, home, ("load", {"source": "org/shared"}), ("load", {"source": "org/secret"}), HF_HUB_OFFLINE="1"
    )
    assert known == {"name": "shared"}
    assert "'org/secret' (revision main) could not be downloaded from the Hub" in unknown["error"]
    assert len(hub.requested) == before
