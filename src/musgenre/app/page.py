"""The Gradio page: song input, predicted genres, timeline, saliency map and JSON download."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musgenre.app.analysis import SongAnalyser
from musgenre.core.errors import MusgenreError, ParameterError

if TYPE_CHECKING:
    from gradio import Blocks

_UPLOAD_LIFETIME_SECONDS = 3600
"""Time until an uploaded song is deleted. Until then it can be played and its record downloaded."""

_TOP_GENRES = 5
_DEMO = Path(__file__).parent.parent / "assets" / "demo.ogg"

_TITLE = """# musgenre
Drop or record a song to see its predicted genre, how the prediction changes over time, and which parts of the
spectrogram support it."""

_PRIVACY = """Songs are processed on the computer that serves this page and are not sent anywhere else. They are
deleted after an hour, or when the server stops."""

_EMPTY = "The genre timeline and the saliency map of the song appear here."

_LEGEND = """Top: genre probabilities over time. Bottom: spectrogram of the window in which the predicted genre is most
probable, darker where it is louder. Orange regions support the genre, violet regions oppose it."""

_CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
#message { border-left: 4px solid #D55E00; padding: 0.5rem 1rem; }
#privacy, #legend { opacity: 0.8; }
"""

Updates = tuple[dict[str, Any], ...]
"""Gradio updates of the message, the legend, the genres, the timeline, the saliency map and the download button."""


def build_page(analyser: SongAnalyser) -> Blocks:
    """Build the page.

    Args:
        analyser: Analyser of the songs.

    Raises:
        ParameterError: Gradio is not installed.
    """
    gradio = _import_gradio()
    with gradio.Blocks(
        title="musgenre",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(_UPLOAD_LIFETIME_SECONDS // 6, _UPLOAD_LIFETIME_SECONDS),
    ) as page:
        gradio.Markdown(_TITLE)
        with gradio.Row():
            with gradio.Column(scale=2):
                song = gradio.Audio(
                    label=f"Song, up to {analyser.max_minutes:g} minutes",
                    sources=["upload", "microphone"],
                    type="filepath",
                    editable=False,
                    buttons=[],
                    elem_id="song",
                )
                gradio.Examples([[str(_DEMO)]], inputs=[song], label="Example")
                message = gradio.Markdown(visible=False, elem_id="message")
                genre = gradio.Label(label="Genre", num_top_classes=_TOP_GENRES, visible=False, elem_id="genre")
                download = gradio.DownloadButton("Download as JSON", visible=False, elem_id="download")
                gradio.Markdown(_PRIVACY, elem_id="privacy")
            with gradio.Column(scale=3):
                legend = gradio.Markdown(_EMPTY, elem_id="legend")
                timeline = gradio.Plot(show_label=False, visible=False, elem_id="timeline")
                saliency = gradio.Plot(show_label=False, visible=False, elem_id="saliency")
        outputs = [message, legend, genre, timeline, saliency, download]

        def analyse(path: str | None) -> Iterator[Updates]:
            if path is not None:
                yield gradio.update(value="Analysing …", visible=True), *(gradio.skip() for _ in outputs[1:])
            yield render_song(analyser, path)

        song.change(analyse, inputs=[song], outputs=outputs, api_name="predict", show_progress="hidden")
    return page


def render_song(analyser: SongAnalyser, path: str | None) -> Updates:
    """Return the updates that show the analysis of a song, or an error message.

    Args:
        analyser: Analyser of the songs.
        path: Path of the uploaded song; ``None`` clears the page.
    """
    gradio = _import_gradio()
    hidden, empty = gradio.update(visible=False), gradio.update(value=_EMPTY)
    if path is None:
        return hidden, empty, hidden, hidden, hidden, hidden
    try:
        analysis = analyser.analyse(path)
    except MusgenreError as error:
        text = str(error).replace(str(path), Path(path).name)
        return gradio.update(value=_escape_markdown(text), visible=True), empty, hidden, hidden, hidden, hidden
    record = Path(path).with_suffix(".json")  # in the temporary directory of the upload
    record.write_text(json.dumps(analysis.record, indent=2, ensure_ascii=False), encoding="utf-8")
    return (
        hidden,
        gradio.update(value=_LEGEND),
        gradio.update(value=analysis.prediction.probabilities, visible=True),
        gradio.update(value=analysis.timeline(), visible=True),
        gradio.update(value=analysis.saliency(), visible=True),
        gradio.update(value=str(record), visible=True),
    )


@contextlib.contextmanager
def serve_page(analyser: SongAnalyser, *, host: str, port: int, max_megabytes: int) -> Iterator[tuple[Blocks, str]]:
    """Serve the page while the block runs, and then delete all uploads.

    Public share links, Gradio's telemetry and the run history of the browser are disabled.

    Args:
        analyser: Analyser of the songs.
        host: Address to listen on; ``"127.0.0.1"`` can be reached from this computer only.
        port: Port to listen on.
        max_megabytes: Maximum size of an upload in megabytes.

    Yields:
        The page and its URL.

    Raises:
        ParameterError: Gradio is not installed, or the port is in use.
    """
    with tempfile.TemporaryDirectory(prefix="musgenre-app-") as directory, _upload_directory(directory):
        page = build_page(analyser)
        try:
            _, url, _ = page.launch(
                server_name=host,
                server_port=port,
                share=False,
                max_file_size=f"{max_megabytes}mb",
                footer_links=[],
                run_history=False,
                ssr_mode=False,
                mcp_server=False,
                prevent_thread_lock=True,
                quiet=True,
                css=_CSS,
            )
        except OSError as error:
            raise ParameterError(
                f"cannot serve the page at {host}:{port}: {error} Choose another port or address."
            ) from error
        try:
            yield page, url
        finally:
            page.close(verbose=False)


@contextlib.contextmanager
def _upload_directory(directory: str) -> Iterator[None]:
    # Gradio reads the environment variable when a page is built and launched; it has no parameter for the directory.
    previous = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = directory
    try:
        yield
    finally:
        if previous is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = previous


def _import_gradio() -> Any:
    # Gradio reads these variables when it is imported. Values that the user has set are not changed.
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_ENABLE_TELEMETRY"):
        os.environ.setdefault(name, "False")
    try:
        import gradio
    except ImportError as error:
        raise ParameterError(
            f"the page requires Gradio, which cannot be imported ({error}): pip install 'musgenre[app]'."
        ) from error
    return gradio


def _escape_markdown(text: str) -> str:
    """Escape Markdown and HTML, because file names are chosen by visitors."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>()#+-!|~$&" else sign for sign in text)
