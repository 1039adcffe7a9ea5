"""``predict_collection`` on a Ray cluster of three nodes: rows, recovery from failures, and errors."""

import copy
import csv
import dataclasses
import importlib.util
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from musgenre.cli.main import app
from musgenre.core.errors import DatasetError, MusgenreError, ParameterError
from musgenre.scale import CollectionOptions, predict_collection
from musgenre.scale.collection import _SYSTEM_CONFIG

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
TAG = "from musgenre.cli.main import main; main()"
pytest.importorskip("ray", reason="Ray (the extra 'scale') is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="PyArrow (the extra 'scale') is not installed")


def test_keywords_are_the_options():
    parameters = inspect.signature(predict_collection).parameters
    for option in dataclasses.fields(CollectionOptions):
        assert parameters[option.name].default == option.default, option.name
    assert set(parameters) - {option.name for option in dataclasses.fields(CollectionOptions)} == {
        "source",
        "output",
        "model",
        "id_column",
    }


def test_private_setting_of_ray_exists():
    """Ray must still take the private argument ``_system_config``, and have the setting that musgenre changes."""
    code = "import ray; ray.init('local', _system_config=1)"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert "The _system_config must be a dict" in done.stderr
    library = Path(importlib.util.find_spec("ray._raylet").origin).read_bytes()
    for name in _SYSTEM_CONFIG:
        assert name.encode() in library, name


def rows_of(output):
    return {row["id"]: row for row in pq.read_table(output).to_pylist()}


def manifest(folder, paths, *, count):
    """Writes a manifest of ``count`` songs, which share a few files."""
    path = folder / "songs.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("track", "path"))
        rows.writerows((f"song {number}", paths[number % len(paths)]) for number in range(count))
    return path


@pytest.fixture(scope="module")
def good(many_songs):
    return [
        path for path in sorted(many_songs.glob("*/*.*")) if path.suffix in (".wav", ".flac") and path.stat().st_size
    ]


@pytest.fixture(scope="module")
def slow(quick):
    """The quick network with a delay, so that runs can be interrupted."""
    slow = copy.deepcopy(quick)
    slow.network.feature.register_forward_pre_hook(lambda *_: time.sleep(0.1))
    return slow


def after_first_files(output, act, *, files=1):
    """Calls a function in a thread once the output has ``files`` files."""
    failures = []

    def wait():
        try:
            deadline = time.monotonic() + 240
            while len(list(output.glob("*.parquet"))) < files:
                if time.monotonic() > deadline:
                    raise TimeoutError("no rows were written")
                time.sleep(0.05)
            act()
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, failures


@pytest.mark.slow
def test_rows_equal_predict(cluster, tmp_path, many_songs, quick):
    options = {"model": quick, "embedding": True, "windows": True, "progress": False, "workers": 1}
    report = predict_collection(many_songs, tmp_path / "out", songs_per_file=10, block_bytes=100_000, **options)
    assert (report.songs, report.present, report.predicted, report.failed) == (26, 0, 26, 2)
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 26
    for name, row in rows.items():
        prediction = quick.predict(many_songs / name, on_error="return")
        if isinstance(prediction, MusgenreError):
            assert row["error"]["kind"] == type(prediction).__name__
            continue
        np.testing.assert_allclose(
            list(row["probabilities"].values()), list(prediction.probabilities.values()), atol=1e-5
        )
        assert row["label"] == prediction.label
        assert len(row["windows"]) == len(prediction.windows.start_seconds)
    some = [name for name, row in rows.items() if row["error"] is None][:4]
    embeddings = np.stack([rows[name]["embedding"] for name in some])
    np.testing.assert_allclose(embeddings, quick.embed([many_songs / name for name in some]), atol=1e-5)
    with pytest.raises(DatasetError, match="columns"):
        predict_collection(many_songs, tmp_path / "out", model=quick)


@pytest.mark.slow
def test_cluster_with_fewer_gpus_than_workers(cluster, tmp_path, many_songs, quick):
    node = cluster.add_node(num_gpus=1, **NODE)  # a GPU that only Ray knows of; the actors use the CPU
    cluster.wait_for_nodes()
    try:
        report = predict_collection(many_songs, tmp_path / "out", model=quick, workers=2, progress=False)
    finally:
        cluster.remove_node(node)
    assert (report.songs, report.predicted, report.failed) == (26, 26, 2)
    expected = {name: quick.predict(many_songs / name, on_error="return") for name in rows_of(tmp_path / "out")}
    labels = {
        name: None if isinstance(prediction, MusgenreError) else prediction.label
        for name, prediction in expected.items()
    }
    assert {name: row["label"] for name, row in rows_of(tmp_path / "out").items()} == labels


@pytest.mark.slow
def test_loss_of_workers_and_a_node(cluster, tmp_path, good, slow):
    import psutil

    output = tmp_path / "out"
    killed = []

    def kill():
        titles = {one: " ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])}
        decoding = [one for one, title in titles.items() if title.startswith("ray::MapBatches(decode_table)")]
        predicting = [
            one for one, title in titles.items() if title.startswith("ray::MapWorker(MapBatches(_Predictor))")
        ]
        for process in [*decoding[:1], *predicting][:2]:
            process.send_signal(signal.SIGKILL)
            killed.append(process.pid)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    thread, failures = after_first_files(output, kill)
    songs = manifest(tmp_path, good, count=72)
    report = predict_collection(
        songs, output, model=slow, id_column="track", songs_per_file=8, workers=3, progress=False
    )
    thread.join()
    cluster.add_node(**NODE)
    assert not failures
    assert len(killed) == 2
    assert (report.songs, report.predicted, report.failed) == (72, 72, 0)
    table = pq.read_table(output)
    assert sorted(table["id"].to_pylist()) == sorted(f"song {number}" for number in range(72))
    expected = {str(path): prediction.label for path, prediction in zip(good, slow.predict(good), strict=True)}
    for name, row in rows_of(output).items():
        assert row["label"] == expected[str(good[int(name.split()[1]) % len(good)])]


@pytest.mark.slow
def test_run_is_resumed_after_ctrl_c_and_a_kill(cluster, tmp_path, good, quick):
    output, model = tmp_path / "out", tmp_path / "model"
    quick.save_pretrained(model)
    songs = manifest(tmp_path, good, count=160)
    options = {"model": quick, "id_column": "track", "workers": 1, "progress": False}

    thread, failures = after_first_files(output, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        predict_collection(songs, output, songs_per_file=8, **options)
    thread.join()
    assert not failures

    command = [sys.executable, "-c", TAG, "tag", songs, "--output", output, "--model", model]
    command += ["--id-column", "track", "--songs-per-file", "8", "--workers", "1"]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL)
    files = len(list(output.glob("*.parquet"))) + 2
    thread, failures = after_first_files(output, process.kill, files=files)
    try:
        assert process.wait(timeout=300) == -signal.SIGKILL
    finally:
        process.kill()
    thread.join()
    assert not failures

    report = predict_collection(songs, output, **options)
    assert 16 < report.present < 160
    assert report.present + report.predicted == 160
    assert sorted(pq.read_table(output)["id"].to_pylist()) == sorted(f"song {number}" for number in range(160))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a processor")
def test_local_ray_with_one_processor(tmp_path, many_songs, quick):
    quick.save_pretrained(tmp_path / "model")
    code = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}); {TAG}"
    command = [sys.executable, "-c", code, "tag", many_songs]
    command += ["--output", tmp_path / "out", "--model", tmp_path / "model"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_raylet_start_wait_time_s": "180", "RAY_worker_niceness": "0"}
    done = subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "26 songs, 0 rows before, 26 now" in done.stdout
    assert len(rows_of(tmp_path / "out")) == 26


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, many_songs, quick):
    quick.save_pretrained(tmp_path / "model")
    command = ["tag", many_songs, "--output", tmp_path / "out", "--model", tmp_path / "model", "--dry-run"]
    done = CliRunner().invoke(app, [*map(str, command)], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"songs     26 in {many_songs}" in done.output
    assert f"done      0 have a row in {tmp_path / 'out'}" in done.output
    assert not (tmp_path / "out").exists()


def test_ctrl_c_during_the_command(monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("musgenre.scale.collection.predict_collection", stop)
    done = CliRunner().invoke(app, ["tag", "music", "--output", "tags"])
    assert done.exit_code == 130
    assert "Finished rows are in 'tags'. Repeat the command to continue." in done.output


def test_invalid_arguments_are_detected_before_writing(tmp_path, many_songs, quick):
    twice = tmp_path / "twice.csv"
    twice.write_text("track,path\n1,a.wav\n1,b.wav\n")
    with pytest.raises(DatasetError, match="same id: 1"):
        predict_collection(twice, tmp_path / "out", model=quick, id_column="track")
    with pytest.raises(TypeError, match="unexpected keyword argument 'embeddings'"):
        predict_collection(many_songs, tmp_path / "out", model=quick, embeddings=True)
    with pytest.raises(ParameterError, match="songs_per_file must be at least 1"):
        predict_collection(many_songs, tmp_path / "out", model=quick, songs_per_file=0)
    assert not (tmp_path / "out").exists()
    assert os.listdir(tmp_path) == ["twice.csv"]


@pytest.mark.slow
def test_object_store(cluster, tmp_path, many_songs, quick):
    server = pytest.importorskip("moto.server", reason="moto (extra 'test') is not installed")
    fs = pytest.importorskip("pyarrow.fs")
    store = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    try:
        host, port = store.get_host_and_port()
        s3 = fs.S3FileSystem(
            access_key="any", secret_key="any", endpoint_override=f"http://{host}:{port}", allow_bucket_creation=True
        )
        s3.create_dir("music")
        fs.copy_files(str(many_songs), "music/songs", destination_filesystem=s3)
        options = {"model": quick, "filesystem": s3, "output_filesystem": s3, "progress": False, "workers": 1}
        first = predict_collection("music/songs/a", "music/out", **options, block_bytes=60_000)
        assert (first.predicted, first.failed) == (13, 1)
        with pytest.raises(DatasetError, match="holds something else"):
            predict_collection("music/songs/a", "music/songs", **options)
        again = predict_collection("music/songs/**/*", "music/out", **options)
        assert (again.songs, again.present, again.predicted, again.failed) == (26, 13, 26, 3)
        table = pq.read_table("music/out", filesystem=s3).to_pylist()
    finally:
        store.stop()
    rows = {row["id"]: row for row in table}
    assert len(table) == len(rows) == 39
    for name in ("00.wav", "a/00.wav"):
        prediction = quick.predict(many_songs / "a" / "00.wav")
        assert rows[name]["probability"] == pytest.approx(prediction.probability, abs=1e-5)
    assert rows["broken.mp3"]["error"]["kind"] == "AudioFileError"
