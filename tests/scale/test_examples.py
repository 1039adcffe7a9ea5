"""The examples in ``examples/scale``."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import musgenre

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples" / "scale"
pq = pytest.importorskip("pyarrow.parquet", reason="PyArrow (the extra 'scale') is not installed")


def run(name, *arguments, **options):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_head_from_embeddings(cluster, tmp_path, genre_folder, monkeypatch, capsys):
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
    # In this process, which is connected to Ray.
    runpy.run_path(str(EXAMPLES / "head_from_embeddings.py"))["main"](str(genre_folder), str(tmp_path / "work"))
    assert capsys.readouterr().out.endswith("accuracy on 2 validation tracks\n")
    assert musgenre.GenreClassifier.from_pretrained(tmp_path / "work" / "model").labels == ("drone", "hiss")


def test_spark(tmp_path, many_songs, monkeypatch):
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("Java, which Spark requires, is not installed")
    import pyarrow as pa

    paths = [str(many_songs / "a" / name) for name in ("00.wav", "02.wav", "broken.mp3")]
    pq.write_table(pa.table({"path": paths}), tmp_path / "songs.parquet")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master local[1] pyspark-shell")
    run("spark_tagging.py", tmp_path / "songs.parquet", tmp_path / "tags.parquet")
    rows = {row["path"]: row for row in pq.read_table(tmp_path / "tags.parquet").to_pylist()}
    assert len(rows) == 3
    predictions = musgenre.GenreClassifier.from_pretrained().predict(paths[:2])
    for path, one in zip(paths, predictions, strict=False):
        assert rows[path]["label"] == one.label
        assert rows[path]["probability"] == pytest.approx(one.probability, abs=1e-5)
        assert rows[path]["error"] is None
    assert rows[paths[2]]["error"].startswith("AudioFileError: ")
