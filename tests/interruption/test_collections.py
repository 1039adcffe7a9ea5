"""A folder of songs through ``musgenre predict --output``: each song once, whatever fails and whoever kills it."""

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
"""How many songs are predicted; 10,000 is what the documentation tells of."""


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
def test_two_kills_and_each_song_once(tmp_path, tiny_model, make_songs):
    songs, output = make_songs(tmp_path / "music", SONGS, broken_every=SONGS // 100 or 1), tmp_path / "results.jsonl"
    for share in (0.3, 0.7):
        process = start(tmp_path / "music", "--output", output, "--resume", "--model", tiny_model)
        wait_for(output, int(share * SONGS), process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with output.open("ab") as file:  # as if it had been killed within a line
            file.write(b'{"path": "half of a li')
    done = len(output.read_bytes().splitlines()) - 1
    process = start(tmp_path / "music", "--output", output, "--resume", "--model", tiny_model)
    memory = []
    for lines in (done + 100, SONGS):
        wait_for(output, min(lines, SONGS), process)
        memory.append(psutil.Process(process.pid).memory_info().rss if process.poll() is None else None)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2, said
    found = rows(output)
    assert Counter(row["path"] for row in found) == Counter(map(str, songs))
    failed = [row for row in found if "error" in row]
    assert len(failed) == 100
    assert all(set(row) == {"path", "error", "message"} and row["message"] for row in failed)
    assert f"{SONGS} songs, {SONGS - 100} predicted, 100 failed" in said
    kinds = Counter(row["error"] for row in failed)
    assert all(f"{kind}: {count}, such as " in said for kind, count in kinds.items())
    sys.stdout.write(f"resident memory in MB: {[value and round(value / 2**20, 1) for value in memory]}\n")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".results")] == []


def test_memory_does_not_grow(tmp_path, make, make_songs):
    songs = make_songs(tmp_path, 60, broken_every=10)
    classifier, process, seen = make(), psutil.Process(), []
    for number, _ in enumerate(
        classifier.predict_iter((songs * (SONGS // 60 + 1))[:SONGS], on_error="return"), start=1
    ):
        if number in (100, SONGS):
            seen.append(process.memory_info().rss)
    assert seen[-1] <= 1.05 * seen[0]


class TestPredictIter:
    def test_what_predict_gives_one_after_the_other(self, tmp_path, make, make_songs):
        songs, classifier = make_songs(tmp_path, 12, broken_every=4), make()
        expected = classifier.predict(songs, on_error="return")
        found = list(classifier.predict_iter(iter(songs), on_error="return"))
        assert [type(result) for result in found] == [type(result) for result in expected]
        assert [result.path for result in found] == [str(song) for song in songs]
        for one, other in zip(found, expected, strict=True):
            if isinstance(one, MusgenreError):
                assert str(one) == str(other)
            else:
                assert one.probabilities == other.probabilities

    def test_it_takes_few_songs_ahead(self, tmp_path, make, make_songs):
        songs, taken = make_songs(tmp_path, 40, broken_every=40), []
        predictions = make().predict_iter((taken.append(song) or song for song in songs), on_error="return")
        assert taken == []
        next(predictions)
        assert len(taken) <= 8
        predictions.close()

    def test_the_first_error_ends_it_unless_told_otherwise(self, tmp_path, make, make_songs):
        songs = make_songs(tmp_path, 6, broken_every=6)
        found = []
        with pytest.raises(AudioFileError) as caught:
            found.extend(make().predict_iter(songs))
        assert caught.value.path == str(songs[3])

    @pytest.mark.parametrize(
        ("source", "options"), [("a.wav", {}), ([], {"on_error": "skip"}), ([], {"batch_size": 0})]
    )
    def test_wrong_arguments_are_refused_at_once(self, make, source, options):
        with pytest.raises(ParameterError):
            make().predict_iter(source, **options)

    def test_an_error_holds_no_audio(self, make, tmp_path):
        path = tmp_path / "song.wav"
        path.write_bytes(b"This is no music.")
        (error,) = make().predict([path], on_error="return")
        link = error
        while link is not None:
            frame = link.__traceback__
            while frame is not None:
                assert not frame.tb_frame.f_locals
                frame = frame.tb_next
            link = link.__cause__ or link.__context__


class TestTheFile:
    LABELS = ("drone", "hiss")

    def test_it_is_not_written_over(self, tmp_path):
        (tmp_path / "a.jsonl").write_text("")
        path = tmp_path / "a.jsonl"
        with pytest.raises(ParameterError, match="--resume"), open_results(path, labels=(), resume=False):
            pass

    def test_one_process_at_a_time(self, tmp_path):
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
    def test_something_else_is_left_alone(self, tmp_path, line):
        path = tmp_path / "a.jsonl"
        path.write_text(line + "\n")
        with pytest.raises(ParameterError, match="line 1"), open_results(path, labels=self.LABELS, resume=True):
            pass
        assert path.read_text() == line + "\n"

    def test_a_full_disk(self, small_disk, make, make_songs, tmp_path):
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

    def test_a_folder_for_reading_only(self, read_only):
        with pytest.raises(ParameterError, match="Read-only"), open_results(read_only / "a", labels=(), resume=True):
            pass

    def test_a_name_that_is_no_text(self, tmp_path, make, make_songs):
        song = make_songs(tmp_path, 1, broken_every=9)[0]
        odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
        os.replace(song, odd)
        with open_results(tmp_path / "a.jsonl", labels=self.LABELS, resume=False) as written:
            written.add(make().predict(odd))
        with open_results(tmp_path / "a.jsonl", labels=self.LABELS, resume=True) as written:
            assert written.done == {odd}


def test_a_kind_of_musgenre_error_has_a_path():
    assert MusgenreError("wrong").path is None
    assert musgenre.MusgenreError is MusgenreError


class TestFolders:
    """What the command takes, in this process."""

    def run(self, *arguments: object) -> Result:
        return CliRunner().invoke(app, ["predict", *map(str, arguments)])

    def test_a_folder_stands_for_its_songs(self, tmp_path, tiny_model, make_songs):
        songs = make_songs(tmp_path / "music", 3, broken_every=9)
        for name in ("._0.wav", "cover.jpg", "notes.txt"):
            (tmp_path / "music" / name).write_text("no music")
        done = self.run(tmp_path / "music", songs[0], "--json", "--model", tiny_model)
        assert done.exit_code == 0
        assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == list(map(str, songs))

    def test_an_empty_folder_is_an_error(self, tmp_path):
        error = self.run(tmp_path).exception
        assert isinstance(error, ParameterError)
        assert "contains no audio files" in str(error)

    def test_a_second_time_nothing_is_predicted(self, tmp_path, tiny_model, make_songs):
        make_songs(tmp_path / "music", 4, broken_every=4)
        for resume in ([], ["--resume"]):
            done = self.run(tmp_path / "music", "--output", tmp_path / "a.jsonl", "--model", tiny_model, *resume)
            assert done.exit_code == 2
            assert "4 songs, 3 predicted, 1 failed" in done.stderr
        assert len(rows(tmp_path / "a.jsonl")) == 4
        assert isinstance(self.run(tmp_path / "music", "--output", tmp_path / "a.jsonl").exception, ParameterError)

    def test_ctrl_c_says_how_to_go_on(self, tmp_path, tiny_model, make_songs, monkeypatch):
        make_songs(tmp_path / "music", 4, broken_every=9)
        monkeypatch.setattr(ResultsFile, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        done = self.run(tmp_path / "music", "--output", tmp_path / "a.jsonl", "--model", tiny_model)
        assert done.exit_code == 130
        assert "--resume" in done.stderr
