"""The page on which songs can be tried: what it answers, what it refuses, and what a visitor sees in a browser."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

import musgenre
from musgenre.core.errors import AudioError, AudioFileError, ParameterError

pytest.importorskip("captum", reason="needs the extra 'explain'")

from musgenre.app.analysis import Answerer

DEMO = Path(musgenre.__file__).parent / "assets" / "demo.ogg"
CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def answerer():
    return Answerer(musgenre.GenreClassifier.from_pretrained(), max_minutes=0.5)


@pytest.fixture(scope="module")
def answer(answerer):
    return answerer.answer(DEMO)


class TestAnswer:
    def test_it_is_the_classifiers(self, answerer, answer):
        expected = answerer.classifier.predict(DEMO)
        assert answer.prediction.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
        assert answer.explanation.label == expected.label

    def test_the_record_has_everything_but_the_path(self, answerer, answer):
        record = json.loads(json.dumps(answer.record))
        assert record["path"] == "demo.ogg"
        assert record["model"] == answerer.classifier.config.name
        assert record["label"] == answer.prediction.label
        rows = [list(window["probabilities"].values()) for window in record["windows"]]
        np.testing.assert_allclose(rows, answer.prediction.windows.probabilities)
        assert list(record["windows"][0]["probabilities"]) == list(answerer.classifier.labels)
        assert [window["start_seconds"] for window in record["windows"]] == list(
            answer.prediction.windows.start_seconds
        )

    def test_pictures_are_the_songs(self, answer):
        (timeline,) = answer.timeline().axes
        assert answer.prediction.label in timeline.get_title(loc="left")
        saliency = answer.saliency().axes[0]
        np.testing.assert_allclose(saliency.images[0].get_array(), answer.explanation.spectrogram)

    def test_a_long_song_is_refused_before_it_is_heard(self, answerer, tmp_path, monkeypatch):
        soundfile.write(tmp_path / "long.wav", np.zeros(8_000 * 120), 8_000)
        monkeypatch.setattr(answerer.classifier, "predict", None)
        with pytest.raises(AudioError, match=r"long.wav: lasts 2 minutes; give at most 0.5"):
            answerer.answer(tmp_path / "long.wav")

    def test_what_is_no_music_is_an_error(self, answerer, tmp_path):
        (tmp_path / "text.mp3").write_text("This is no music.")
        with pytest.raises(AudioFileError):
            answerer.answer(tmp_path / "text.mp3")

    @pytest.mark.parametrize("minutes", [0, -1, float("nan")])
    def test_a_limit_must_be_positive(self, answerer, minutes):
        with pytest.raises(ParameterError, match="max_minutes"):
            Answerer(answerer.classifier, max_minutes=minutes)


def test_without_gradio_the_extra_is_named(answerer, monkeypatch):
    from musgenre.app.page import build

    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ParameterError, match=r"musgenre\[app\]"):
        build(answerer)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(answerer):
    """The page's address, and the folder of its uploads; songs of at most one megabyte."""
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    from musgenre.app.page import served

    with served(answerer, host="127.0.0.1", port=_free_port(), max_megabytes=1) as (_, address):
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        yield address.rstrip("/"), folder
    assert not folder.exists()
    assert os.environ.get("GRADIO_TEMP_DIR") != str(folder)


def _upload(address: str, name: str, content: bytes) -> list[str]:
    mark = "mark-between-parts"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    request = urllib.request.Request(f"{address}/gradio_api/upload", data=body, headers=kind)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


class TestServer:
    def test_nothing_is_shared_or_reported_or_recorded(self, server):
        address, _ = server
        with urllib.request.urlopen(f"{address}/config", timeout=60) as response:
            config = json.load(response)
        assert config["analytics_enabled"] is False
        assert config["run_history"] is False
        assert config["footer_links"] == []
        assert not config.get("share_url")
        assert address.startswith("http://127.0.0.1:")

    def test_a_large_file_is_refused_and_not_kept(self, server):
        address, folder = server
        with pytest.raises(urllib.error.HTTPError) as refused:
            _upload(address, "large.wav", bytes(2_000_000))
        assert refused.value.code == 413
        assert not list(folder.rglob("large*"))
        (kept,) = _upload(address, "small.wav", bytes(1_000))
        assert folder in Path(kept).parents

    @pytest.mark.parametrize("path", ["/etc/passwd", str(Path(__file__)), str(DEMO.parent / "config.json")])
    def test_files_of_the_computer_cannot_be_fetched(self, server, path):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server[0]}/gradio_api/file={path}", timeout=60)
        assert refused.value.code in (403, 404)

    def test_a_port_that_is_taken_is_an_error_in_words(self, server, answerer):
        from musgenre.app.page import served

        port = int(server[0].rpartition(":")[2])
        before = os.environ["GRADIO_TEMP_DIR"]
        with (
            pytest.raises(ParameterError, match=f"127.0.0.1:{port}"),
            served(answerer, host="127.0.0.1", port=port, max_megabytes=1),
        ):
            pass
        assert os.environ["GRADIO_TEMP_DIR"] == before

    def test_what_is_shown_of_songs_and_of_what_is_none(self, server, answerer, tmp_path):
        from musgenre.app.page import show

        song = tmp_path / "a song.ogg"
        song.write_bytes(DEMO.read_bytes())
        message, _, genre, timeline, saliency, download = show(answerer, str(song))
        assert [part["visible"] for part in (message, genre, timeline, saliency, download)] == [False] + [True] * 4
        assert max(genre["value"], key=genre["value"].get) == answerer.classifier.predict(DEMO).label
        assert json.loads(Path(download["value"]).read_text())["path"] == "a song.ogg"
        text = tmp_path / "<b>_text_.mp3"
        text.write_text("This is no music.")
        message, _, *rest = show(answerer, str(text))
        assert message["visible"]
        assert r"\<b\>\_text\_.mp3" in message["value"]
        assert str(tmp_path) not in message["value"]
        assert not any(part["visible"] for part in rest)
        message, _, *rest = show(answerer, None)
        assert not any(part["visible"] for part in (message, *rest))


@pytest.fixture(scope="module")
def visitor(server):
    """A page in headless Chromium, and the addresses that it has asked for."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright (the extra 'app-test')")
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_OPTIONS))
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.set_default_timeout(120_000)
        page.goto(server[0])
        page.wait_for_selector("#song input[type=file]", state="attached")
        yield page, asked
        browser.close()


@pytest.mark.slow
class TestBrowser:
    def test_a_visitor_drops_a_song_and_reads_its_genre(self, visitor, server, answerer, tmp_path):
        page, asked = visitor
        page.set_input_files("#song input[type=file]", str(DEMO))
        page.wait_for_selector("#saliency img")
        expected = answerer.classifier.predict(DEMO)
        lines = page.inner_text("#genre").split()
        assert expected.label in lines
        assert f"{expected.probability:.0%}" in lines
        sizes = [page.locator(f"#{name} img").bounding_box() for name in ("timeline", "saliency")]
        assert all(box["width"] > 400 and box["height"] > 150 for box in sizes)
        with page.expect_download() as download:
            page.click("#download")
        assert download.value.suggested_filename == "demo.json"
        assert json.loads(Path(download.value.path()).read_text())["label"] == expected.label
        page.screenshot(path=os.environ.get("MUSGENRE_TEST_SCREENSHOT") or str(tmp_path / "page.png"), full_page=True)
        hosts = {url.split("/")[2] for url in asked if url.startswith("http")}
        assert hosts == {server[0].rpartition("/")[2]}

    def test_what_is_no_music_is_told_in_words_and_can_be_taken_away(self, visitor, tmp_path):
        page, _ = visitor
        page.click("#song button[aria-label=Clear]")
        page.wait_for_selector("#genre", state="hidden")
        text = tmp_path / "no_music.mp3"
        text.write_text("This is no music.")
        page.set_input_files("#song input[type=file]", str(text))
        page.wait_for_function("document.querySelector('#message')?.innerText.includes('no_music.mp3')")
        assert "Traceback" not in page.inner_text("body")
        page.click("text=demo.ogg")  # the piece to try
        page.wait_for_selector("#genre")
        page.wait_for_selector("#message", state="hidden")


@pytest.mark.slow
def test_the_command_serves_until_it_is_stopped():
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    port = _free_port()
    command = [sys.executable, "-c", "from musgenre.cli.main import main; main()", "app", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in said, process.stderr.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=60) as response:
            assert b"musgenre" in response.read()
        process.send_signal(2)  # Ctrl-C
        rest, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, (rest, complaints)
    assert "Traceback" not in complaints
