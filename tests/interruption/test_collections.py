"""``musgenre predict --output`` writes each track of a directory once, despite failures and kills."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from click.testing import Result
from typer.testing import CliRunner

import musgenre
from musgenre.cli.main import app
from musgenre.cli.results import ResultsFile, open_results
from musgenre.core.errors import AudioFileError, MusgenreError, ParameterError

CALL = "import torch; torch.set_num_threads(2); from musgenre.cli.main import main; main()"
SONGS = int(os.environ.get("MUSGENRE_TEST_SONGS", "600"))
"""Number of predicted tracks; the documentation reports 10,000."""


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CALL, "predict", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for(path: Path, lines: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_each_track_is_written_once_despite_two_kills(tmp_path, tiny_model, make_songs):
    songs, output = make_songs(tmp_path / "music", SONGS, broken_every=SONGS // 100 or 1), tmp_path / "results.jsonl"
    for share in (0.3, 0.7):
        process = start(tmp_path / "music", "--output", output, "--resume", "--model", tiny_model)
        wait_for(output, int(share * SONGS), process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with output.open("ab") as file:  # simulates a kill within a line
            file.write(b'{"path": "incomplete li')
    done = len(output.read_bytes().splitlines()) - 1
    process = start(tmp_path / "music", "--output", output, "--resume", "--model", tiny_model)
    memory = []
    for lines in (done + 100, SONGS):
        wait_for(output, min(lines, SONGS), process)
        memory.append(psutil.Process(process.pid).memory_info().rss if process.poll() is None else None)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 2, stderr
    results = rows(output)
    assert Counter(row["path"] for row in results) == Counter(map(str, songs))
    failed = [row for row in results if "error" in row]
    assert len(failed) == 100
    assert all(set(row) == {"path", "error", "message"} and row["message"] for row in failed)
    assert f"{SONGS} songs, {SONGS - 100} predicted, 100 failed" in stderr
    kinds = Counter(row["error"] for row in failed)
    assert all(f"{kind}: {count}, such as " in stderr for kind, count in kinds.items())
    sys.stdout.write(f"resident memory in MB: {[value and round(value / 2**20, 1) for value in memory]}\n")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".results")] == []


def test_memory_does_not_grow(tmp_path, make, make_songs):
    songs = make_songs(tmp_path, 60, broken_every=10)
    classifier, process, sizes = make(), psutil.Process(), []
    for number, _ in enumerate(
        classifier.predict_iter((songs * (SONGS // 60 + 1))[:SONGS], on_error="return"), start=1
    ):
        if number in (100, SONGS):
            sizes.append(process.memory_info().rss)
    assert sizes[-1] <= 1.05 * sizes[0]


class TestPredictIter:
    def test_equals_predict(self, tmp_path, make, make_songs):
        songs, classifier = make_songs(tmp_path, 12, broken_every=4), make()
        expected = classifier.predict(songs, on_error="return")
        results = list(classifier.predict_iter(iter(songs), on_error="return"))
        assert [type(result) for result in results] == [type(result) for result in expected]
        assert [result.path for result in results] == [str(song) for song in songs]
        for result, reference in zip(results, expected, strict=True):
            if isinstance(result, MusgenreError):
                assert str(result) == str(reference)
            else:
                assert result.probabilities == reference.probabilities

    def test_consumes_few_paths_ahead(self, tmp_path, make, make_songs):
        songs, consumed = make_songs(tmp_path, 40, broken_every=40), []
        predictions = make().predict_iter((consumed.append(song) or song for song in songs), on_error="return")
        assert consumed == []
        next(predictions)
        assert len(consumed) <= 8
        predictions.close()

    def test_the_first_error_is_raised_by_default(self, tmp_path, make, make_songs):
        songs = make_songs(tmp_path, 6, broken_every=6)
        results = []
        with pytest.raises(AudioFileError) as caught:
            results.extend(make().predict_iter(songs))
        assert caught.value.path == str(songs[3])

    @pytest.mark.parametrize(
        ("source", "options"), [("a.wav", {}), ([], {"on_error": "skip"}), ([], {"batch_size": 0})]
    )
    def test_invalid_arguments_raise_immediately(self, make, source, options):
        with pytest.raises(ParameterError):
            make().predict_iter(source, **options)

    def test_errors_hold_no_references_to_audio(self, make, tmp_path):
        path = tmp_path / "song.wav"
        path.write_bytes(b"not audio")
        (error,) = make().predict([path], on_error="return")
        link = error
        while link is not None:
            frame = link.__traceback__
            while frame is not None:
                assert not frame.tb_frame.f_locals
                frame = frame.tb_next
            link = link.__cause__ or link.__context__


class TestResultsFile:
    LABELS = ("drone", "hiss")

    def test_is_not_overwritten(self, tmp_path):
        (tmp_path / "a.jsonl").write_text("")
        path = tmp_path / "a.jsonl"
        with pytest.raises(ParameterError, match="--resume"), open_results(path, labels=(), resume=False):
            pass

    def test_is_locked(self, tmp_path):
        path = tmp_path / "a.jsonl"
        with (
            open_results(path, labels=(), resume=True),
            pytest.raises(ParameterError, match="another process"),
            open_results(path, labels=(), resume=True),
        ):
            pass

    @pytest.mark.parametrize(
        "line", ["not JSON", "[]", "7", '{"label": "x"}', '{"path": "a", "probabilities": {"jazz": 1, "rock": 0}}']
    )
    def test_other_files_are_not_modified(self, tmp_path, line):
        path = tmp_path / "a.jsonl"
        path.write_text(line + "\n")
        with pytest.raises(ParameterError, match="line 1"), open_results(path, labels=self.LABELS, resume=True):
            pass
        assert path.read_text() == line + "\n"

    def test_full_disk(self, small_disk, make, make_songs, tmp_path):
        prediction = make().predict(make_songs(tmp_path, 1, broken_every=9)[0])
        (small_disk / "full").write_bytes(bytes(2**20 - 4_096 * 3))
        path = small_disk / "a.jsonl"
        endless = itertools.repeat(prediction)
        with (
            open_results(path, labels=self.LABELS, resume=True) as written,
            pytest.raises(ParameterError, match="No space"),
        ):
            list(map(written.add, endless))
        assert path.read_bytes().endswith(b"\n")
        (small_disk / "full").unlink()
        with open_results(path, labels=self.LABELS, resume=True) as written:
            assert written.done == {prediction.path}
            written.add(prediction)

    def test_read_only_directory(self, read_only):
        with pytest.raises(ParameterError, match="Read-only"), open_results(read_only / "a", labels=(), resume=True):
            pass

    def test_file_name_that_is_not_utf8(self, tmp_path, make, make_songs):
        song = make_songs(tmp_path, 1, broken_every=9)[0]
        path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
        os.replace(song, path)
        with open_results(tmp_path / "a.jsonl", labels=self.LABELS, resume=False) as written:
            written.add(make().predict(path))
        with open_results(tmp_path / "a.jsonl", labels=self.LABELS, resume=True) as written:
            assert written.done == {path}


def test_musgenre_error_has_a_path():
    assert MusgenreError("wrong").path is None
    assert musgenre.MusgenreError is MusgenreError


class TestCommand:
    """The command, run in this process."""

    def run(self, *arguments: object) -> Result:
        return CliRunner().invoke(app, ["predict", *map(str, arguments)])

    def test_a_directory_is_expanded_to_its_audio_files(self, tmp_path, tiny_model, make_songs):
        songs = make_songs(tmp_path / "music", 3, broken_every=9)
        for name in ("._0.wav", "cover.jpg", "notes.txt"):
            (tmp_path / "music" / name).write_text("not audio")
        done = self.run(tmp_path / "music", songs[0], "--json", "--model", tiny_model)
        assert done.exit_code == 0
        assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == list(map(str, songs))

    def test_empty_directory(self, tmp_path):
        error = self.run(tmp_path).exception
        assert isinstance(error, ParameterError)
        assert "contains no audio files" in str(error)

    def test_resuming_a_complete_file_predicts_nothing(self, tmp_path, tiny_model, make_songs):
        make_songs(tmp_path / "music", 4, broken_every=4)
        for resume in ([], ["--resume"]):
            done = self.run(tmp_path / "music", "--output", tmp_path / "a.jsonl", "--model", tiny_model, *resume)
            assert done.exit_code == 2
            assert "4 songs, 3 predicted, 1 failed" in done.stderr
        assert len(rows(tmp_path / "a.jsonl")) == 4
        assert isinstance(self.run(tmp_path / "music", "--output", tmp_path / "a.jsonl").exception, ParameterError)

    def test_interrupt_suggests_resume(self, tmp_path, tiny_model, make_songs, monkeypatch):
        make_songs(tmp_path / "music", 4, broken_every=9)
        monkeypatch.setattr(ResultsFile, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        done = self.run(tmp_path / "music", "--output", tmp_path / "a.jsonl", "--model", tiny_model)
        assert done.exit_code == 130
        assert "--resume" in done.stderr
