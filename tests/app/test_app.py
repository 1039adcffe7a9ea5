"""The Gradio page: analysis of songs, limits, server and behaviour in a browser."""

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

from musgenre.app.analysis import SongAnalyser

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
def analyser():
    return SongAnalyser(musgenre.GenreClassifier.from_pretrained(), max_minutes=0.5)


@pytest.fixture(scope="module")
def analysis(analyser):
    return analyser.analyse(DEMO)


class TestSongAnalyser:
    def test_prediction_equals_that_of_the_classifier(self, analyser, analysis):
        expected = analyser.classifier.predict(DEMO)
        assert analysis.prediction.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
        assert analysis.explanation.label == expected.label

    def test_record_has_all_results_but_no_path(self, analyser, analysis):
        record = json.loads(json.dumps(analysis.record))
        assert record["path"] == "demo.ogg"
        assert record["model"] == analyser.classifier.config.name
        assert record["label"] == analysis.prediction.label
        rows = [list(window["probabilities"].values()) for window in record["windows"]]
        np.testing.assert_allclose(rows, analysis.prediction.windows.probabilities)
        assert list(record["windows"][0]["probabilities"]) == list(analyser.classifier.labels)
        assert [window["start_seconds"] for window in record["windows"]] == list(
            analysis.prediction.windows.start_seconds
        )

    def test_figures_show_the_song(self, analysis):
        (timeline,) = analysis.timeline().axes
        assert analysis.prediction.label in timeline.get_title(loc="left")
        saliency = analysis.saliency().axes[0]
        np.testing.assert_allclose(saliency.images[0].get_array(), analysis.explanation.spectrogram)

    def test_long_song_is_refused_before_prediction(self, analyser, tmp_path, monkeypatch):
        soundfile.write(tmp_path / "long.wav", np.zeros(8_000 * 120), 8_000)
        monkeypatch.setattr(analyser.classifier, "predict", None)
        with pytest.raises(AudioError, match=r"long.wav: duration is 2 minutes, the maximum is 0.5"):
            analyser.analyse(tmp_path / "long.wav")

    def test_file_that_is_not_audio_is_an_error(self, analyser, tmp_path):
        (tmp_path / "text.mp3").write_text("This is not audio.")
        with pytest.raises(AudioFileError):
            analyser.analyse(tmp_path / "text.mp3")

    @pytest.mark.parametrize("minutes", [0, -1, float("nan")])
    def test_max_minutes_must_be_positive(self, analyser, minutes):
        with pytest.raises(ParameterError, match="max_minutes"):
            SongAnalyser(analyser.classifier, max_minutes=minutes)


def test_error_without_gradio_names_the_extra(analyser, monkeypatch):
    from musgenre.app.page import build_page

    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ParameterError, match=r"musgenre\[app\]"):
        build_page(analyser)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(analyser):
    """URL of the page and directory of its uploads, of at most one megabyte each."""
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    from musgenre.app.page import serve_page

    with serve_page(analyser, host="127.0.0.1", port=_free_port(), max_megabytes=1) as (_, address):
        directory = Path(os.environ["GRADIO_TEMP_DIR"])
        yield address.rstrip("/"), directory
    assert not directory.exists()
    assert os.environ.get("GRADIO_TEMP_DIR") != str(directory)


def _upload(address: str, name: str, content: bytes) -> list[str]:
    boundary = "boundary-between-parts"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{address}/gradio_api/upload", data=body, headers=kind)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


class TestServer:
    def test_sharing_telemetry_and_run_history_are_disabled(self, server):
        address, _ = server
        with urllib.request.urlopen(f"{address}/config", timeout=60) as response:
            config = json.load(response)
        assert config["analytics_enabled"] is False
        assert config["run_history"] is False
        assert config["footer_links"] == []
        assert not config.get("share_url")
        assert address.startswith("http://127.0.0.1:")

    def test_large_file_is_refused_and_not_stored(self, server):
        address, directory = server
        with pytest.raises(urllib.error.HTTPError) as refused:
            _upload(address, "large.wav", bytes(2_000_000))
        assert refused.value.code == 413
        assert not list(directory.rglob("large*"))
        (stored,) = _upload(address, "small.wav", bytes(1_000))
        assert directory in Path(stored).parents

    @pytest.mark.parametrize("path", ["/etc/passwd", str(Path(__file__)), str(DEMO.parent / "config.json")])
    def test_other_files_of_the_server_cannot_be_read(self, server, path):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server[0]}/gradio_api/file={path}", timeout=60)
        assert refused.value.code in (403, 404)

    def test_port_in_use_is_an_error(self, server, analyser):
        from musgenre.app.page import serve_page

        port = int(server[0].rpartition(":")[2])
        before = os.environ["GRADIO_TEMP_DIR"]
        with (
            pytest.raises(ParameterError, match=f"127.0.0.1:{port}"),
            serve_page(analyser, host="127.0.0.1", port=port, max_megabytes=1),
        ):
            pass
        assert os.environ["GRADIO_TEMP_DIR"] == before

    def test_page_shows_results_or_an_error(self, server, analyser, tmp_path):
        from musgenre.app.page import render_song

        song = tmp_path / "a song.ogg"
        song.write_bytes(DEMO.read_bytes())
        message, _, genre, timeline, saliency, download = render_song(analyser, str(song))
        assert [part["visible"] for part in (message, genre, timeline, saliency, download)] == [False] + [True] * 4
        assert max(genre["value"], key=genre["value"].get) == analyser.classifier.predict(DEMO).label
        assert json.loads(Path(download["value"]).read_text())["path"] == "a song.ogg"
        text = tmp_path / "<b>_text_.mp3"
        text.write_text("This is not audio.")
        message, _, *rest = render_song(analyser, str(text))
        assert message["visible"]
        assert r"\<b\>\_text\_.mp3" in message["value"]
        assert str(tmp_path) not in message["value"]
        assert not any(part["visible"] for part in rest)
        message, _, *rest = render_song(analyser, None)
        assert not any(part["visible"] for part in (message, *rest))


@pytest.fixture(scope="module")
def visitor(server):
    """The page in headless Chromium, and the URLs that it has requested."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright (the extra 'app-test')")
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_OPTIONS))
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.set_default_timeout(120_000)
        page.goto(server[0])
        page.wait_for_selector("#song input[type=file]", state="attached")
        yield page, requested
        browser.close()


@pytest.mark.slow
class TestBrowser:
    def test_uploaded_song_is_predicted(self, visitor, server, analyser, tmp_path):
        page, requested = visitor
        page.set_input_files("#song input[type=file]", str(DEMO))
        page.wait_for_selector("#saliency img")
        expected = analyser.classifier.predict(DEMO)
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
        hosts = {url.split("/")[2] for url in requested if url.startswith("http")}
        assert hosts == {server[0].rpartition("/")[2]}

    def test_error_is_shown_and_can_be_cleared(self, visitor, tmp_path):
        page, _ = visitor
        page.click("#song button[aria-label=Clear]")
        page.wait_for_selector("#genre", state="hidden")
        text = tmp_path / "no_music.mp3"
        text.write_text("This is not audio.")
        page.set_input_files("#song input[type=file]", str(text))
        page.wait_for_function("document.querySelector('#message')?.innerText.includes('no_music.mp3')")
        assert "Traceback" not in page.inner_text("body")
        page.click("text=demo.ogg")  # the example
        page.wait_for_selector("#genre")
        page.wait_for_selector("#message", state="hidden")


@pytest.mark.slow
def test_command_serves_until_ctrl_c():
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    port = _free_port()
    command = [sys.executable, "-c", "from musgenre.cli.main import main; main()", "app", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in line, process.stderr.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=60) as response:
            assert b"musgenre" in response.read()
        process.send_signal(2)  # Ctrl-C
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, (stdout, stderr)
    assert "Traceback" not in stderr
