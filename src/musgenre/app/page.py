"""The page itself, in Gradio: a place to drop or record a song, and what was heard in it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musgenre.app.analysis import Answerer
from musgenre.core.errors import MusgenreError, ParameterError

if TYPE_CHECKING:
    from gradio import Blocks

_KEPT_SECONDS = 3600
"""How long an uploaded song is kept while the page is served, so that it can be played and its record fetched."""

_GENRES_SHOWN = 5
_DEMO = Path(__file__).parent.parent / "assets" / "demo.ogg"

_TITLE = """# musgenre
Drop a song or record one, and see which genre the model hears, how it moves through the song, and what spoke for it."""

_PRIVACY = """The song is heard on the computer that serves this page, and goes nowhere else. It is deleted after an
hour, or when the page is no longer served."""

_EMPTY = "Here you will see how the genre moves through the song, and what in it spoke for its genre."

_LEGEND = """Above, the genres that the model hears from moment to moment. Below, the moment that is surest of the
song's genre: the grey is the sound, dark where it is loud; what is orange spoke for the genre, what is violet against
it."""

_CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
#message { border-left: 4px solid #D55E00; padding: 0.5rem 1rem; }
#privacy, #legend { opacity: 0.8; }
"""

Shown = tuple[dict[str, Any], ...]
"""What becomes of the message, the legend, the genre, the timeline, the saliency and the download."""


def build(answerer: Answerer) -> Blocks:
    """Returns the page.

    Args:
        answerer: What hears the songs.

    Raises:
        ParameterError: Gradio is not installed.
    """
    gradio = _gradio()
    with gradio.Blocks(
        title="musgenre", analytics_enabled=False, fill_width=True, delete_cache=(_KEPT_SECONDS // 6, _KEPT_SECONDS)
    ) as page:
        gradio.Markdown(_TITLE)
        with gradio.Row():
            with gradio.Column(scale=2):
                label = f"Song, at most {answerer.max_minutes:g} minutes"
                sources = ["upload", "microphone"]
                song = gradio.Audio(
                    label=label, sources=sources, type="filepath", editable=False, buttons=[], elem_id="song"
                )
                gradio.Examples([[str(_DEMO)]], inputs=[song], label="Or try a piece that passes through four styles")
                message = gradio.Markdown(visible=False, elem_id="message")
                genre = gradio.Label(label="Genre", num_top_classes=_GENRES_SHOWN, visible=False, elem_id="genre")
                download = gradio.DownloadButton("Download as JSON", visible=False, elem_id="download")
                gradio.Markdown(_PRIVACY, elem_id="privacy")
            with gradio.Column(scale=3):
                legend = gradio.Markdown(_EMPTY, elem_id="legend")
                timeline = gradio.Plot(show_label=False, visible=False, elem_id="timeline")
                saliency = gradio.Plot(show_label=False, visible=False, elem_id="saliency")
        shown = [message, legend, genre, timeline, saliency, download]

        def hear(path: str | None) -> Iterator[Shown]:
            if path is not None:
                yield gradio.update(value="Listening …", visible=True), *(gradio.skip() for _ in shown[1:])
            yield show(answerer, path)

        song.change(hear, inputs=[song], outputs=shown, api_name="predict", show_progress="hidden")
    return page


def show(answerer: Answerer, path: str | None) -> Shown:
    """Returns what the page shows of a song: its genre, or in words why there is none.

    Args:
        answerer: What hears it.
        path: Where Gradio put the song, or ``None`` where there is none any more.
    """
    gradio = _gradio()
    hidden, empty = gradio.update(visible=False), gradio.update(value=_EMPTY)
    if path is None:
        return hidden, empty, hidden, hidden, hidden, hidden
    try:
        answer = answerer.answer(path)
    except MusgenreError as error:
        # Plain text: the name of a file is in it, and could be taken for markup.
        text = str(error).replace(str(path), Path(path).name)
        return gradio.update(value=_literal(text), visible=True), empty, hidden, hidden, hidden, hidden
    record = Path(path).with_suffix(".json")  # in the song's own temporary folder, with the song's name
    record.write_text(json.dumps(answer.record, indent=2, ensure_ascii=False), encoding="utf-8")
    return (
        hidden,
        gradio.update(value=_LEGEND),
        gradio.update(value=answer.prediction.probabilities, visible=True),
        gradio.update(value=answer.timeline(), visible=True),
        gradio.update(value=answer.saliency(), visible=True),
        gradio.update(value=str(record), visible=True),
    )


@contextlib.contextmanager
def served(answerer: Answerer, *, host: str, port: int, max_megabytes: int) -> Iterator[tuple[Blocks, str]]:
    """Serves the page while the block runs, and then deletes all that was uploaded.

    No link to it is published, nothing is reported to Gradio's makers, and no run is recorded in the browser.

    Args:
        answerer: What hears the songs.
        host: The address to serve at; ``"127.0.0.1"`` is reached from this computer alone.
        port: The port.
        max_megabytes: Larger files are refused while they are uploaded.

    Yields:
        The page, and its address.

    Raises:
        ParameterError: Gradio is not installed, or the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="musgenre-app-") as folder, _uploads_in(folder):
        page = build(answerer)
        try:
            _, address, _ = page.launch(
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
                f"The page cannot be served at {host}:{port}: {error} Choose another port or address."
            ) from error
        try:
            yield page, address
        finally:
            page.close(verbose=False)


@contextlib.contextmanager
def _uploads_in(folder: str) -> Iterator[None]:
    # The one way in which Gradio is told where uploads go; it asks when a page is built and served.
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


def _gradio() -> Any:
    # It looks for these when it is imported; whoever has set them is not overruled.
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_ENABLE_TELEMETRY"):
        os.environ.setdefault(name, "False")
    try:
        import gradio
    except ImportError as error:
        raise ParameterError(
            f"The page needs Gradio, which cannot be imported ({error}): pip install 'musgenre[app]'."
        ) from error
    return gradio


def _literal(text: str) -> str:
    """Returns text that Markdown shows as it is."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>()#+-!|~$&" else sign for sign in text)
