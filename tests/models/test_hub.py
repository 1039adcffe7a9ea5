"""Uploads to and downloads from a local Hub."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.models import serialization
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork
from musgenre.models.serialization import CONFIG_FILE, WEIGHTS_FILE

CONFIG = ModelConfig(
    "shared",
    ("choro", "samba"),
    AudioSpec(sample_rate=8000, window_seconds=1.0, hop_seconds=1.0),
    Component("logmel", {"n_fft": 512, "n_mels": 40, "hop_length": 200}),
    Component("vgg16-slim", {"width": 0.03, "dense_units": 8}),
)
CLIENT_SCRIPT = """
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


@pytest.fixture(scope="module")
def results(hub, run_hub_client, tmp_path_factory):
    """Runs all queries with the same environment in one process, because importing takes seconds."""
    model = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    GenreClassifier(GenreNetwork.from_config(CONFIG), CONFIG, device="cpu").save_pretrained(model)
    other = tmp_path_factory.mktemp("cache")
    push = {"model": str(model), "repo_id": "org/shared"}
    secret = {"source": "org/secret", "cache_dir": str(other)}
    queries = {
        "push without token": ("push", {**push, "token": False}),
        "push": ("push", {**push, "token": hub.token, "commit_message": "First"}),
        "push to a branch": ("push", {**push, "token": hub.token, "branch": "try"}),
        "push a request": ("push", {**push, "token": hub.token, "create_pr": True}),
        "push in private": ("push", {**push, "repo_id": "org/secret", "token": hub.token, "private": True}),
        "private without token": ("load", {**secret, "token": False}),
        "private": ("load", {**secret, "token": hub.token}),
        "public": ("load", {"source": "org/shared"}),
    }
    return dict(zip(queries, run_hub_client(CLIENT_SCRIPT, *queries.values(), endpoint=hub.address), strict=True)) | {
        "cache": other
    }


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
def test_offline_sends_no_request(results, hub, run_hub_client):
    before = len(hub.requested)
    queries = ("load", {"source": "org/shared"}), ("load", {"source": "org/secret"})
    known, unknown = run_hub_client(CLIENT_SCRIPT, *queries, endpoint=hub.address, HF_HUB_OFFLINE="1")
    assert known == {"name": "shared"}
    assert "'org/secret' (revision main) could not be downloaded from the Hub" in unknown["error"]
    assert len(hub.requested) == before


LOCATE_SCRIPT = """
import json, sys, time
from musgenre.models import serialization
from musgenre.core.errors import WeightsError
for arguments in json.loads(sys.argv[1]):
    start = time.perf_counter()
    try:
        result = {"directory": str(serialization.locate(**arguments))}
    except WeightsError as error:
        result = {"error": str(error), "cause": type(error.__cause__).__name__}
    print(json.dumps({**result, "seconds": time.perf_counter() - start}))
"""


@pytest.fixture(scope="module")
def network() -> GenreNetwork:
    torch.manual_seed(0)
    network = GenreNetwork.from_config(CONFIG)
    network(torch.randn(4, 8000))  # updates the statistics of batch normalisation
    return network.eval()


@pytest.fixture(scope="module")
def query_hub(run_hub_client: Callable[..., list[dict[str, Any]]]) -> Callable[..., list[dict[str, Any]]]:
    """Calls ``locate()`` with short timeouts."""
    return partial(run_hub_client, LOCATE_SCRIPT, HF_HUB_DOWNLOAD_TIMEOUT="2", HF_HUB_ETAG_TIMEOUT="2")


@pytest.fixture(scope="module")
def downloads(hub, query_hub, network, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The results of all queries, run in one process, because importing takes seconds."""
    model = tmp_path_factory.mktemp("hub")
    serialization.save(model, config=CONFIG, network=network)
    files = {name: (model / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)}
    files.update({"README.md": b"# Model", "evil.bin": b"pickle"})
    hub.repositories.update({"org/model": files, "org/broken": files})
    hub.broken.add("org/broken")
    queries = {
        "before": {"source": "org/model", "revision": "v1", "local_files_only": True},
        "download": {"source": "org/model", "revision": "v1"},
        "after": {"source": "org/model", "revision": "v1", "local_files_only": True},
        "other revision": {"source": "org/model", "revision": "v2"},
        "other model": {"source": "org/nothing"},
        "broken": {"source": "org/broken", "revision": "v1"},
    }
    return dict(zip(queries, query_hub(*queries.values(), endpoint=hub.address), strict=True))


@pytest.mark.slow
class TestDownload:
    def test_download(self, downloads, hub, network):
        directory = Path(downloads["download"]["directory"])
        assert sorted(path.name for path in directory.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
        config, loaded = serialization.load(directory)
        assert config == CONFIG
        torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)
        requested = [path for path in hub.requested if "org/model" in path]
        assert any(path.endswith("/org/model/revision/v1") for path in requested)
        assert not any("README" in path or "evil" in path for path in requested)

    def test_local_files_only(self, downloads):
        assert "'org/model' (revision v1) could not be downloaded" in downloads["before"]["error"]
        assert downloads["after"]["directory"] == downloads["download"]["directory"]

    def test_unknown_revision(self, downloads):
        assert "'org/model' (revision v2) could not be downloaded" in downloads["other revision"]["error"]
        assert downloads["other revision"]["cause"] == "RevisionNotFoundError"

    def test_unknown_model(self, downloads):
        assert "'org/nothing' (revision main) could not be downloaded" in downloads["other model"]["error"]
        assert downloads["other model"]["cause"] == "RepositoryNotFoundError"

    def test_broken_connection(self, downloads):
        assert "'org/broken' (revision v1) could not be downloaded" in downloads["broken"]["error"]
        assert "Check the name, the revision and the network" in downloads["broken"]["error"]

    def test_unreachable(self, downloads, query_hub):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
            queries = {"source": "org/other"}, {"source": "org/model", "revision": "v1"}
            unknown, cached = query_hub(*queries, endpoint=endpoint)
        assert "'org/other' (revision main) could not be downloaded" in unknown["error"]
        assert unknown["seconds"] < 15
        assert cached["directory"] == downloads["download"]["directory"]
