"""``musgenre predict``, ``musgenre export`` and ``musgenre demo``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from musgenre.audio.options import ReadOptions
from musgenre.cli.formatters import format_prediction, prediction_printer, progress_bar
from musgenre.cli.options import ModelOption, TopOption, silence_decoder
from musgenre.core.errors import MusgenreError, ParameterError

if TYPE_CHECKING:
    from musgenre.core.config import Prediction
    from musgenre.models.classifier import GenreClassifier

_LIMITS = "Input limits"


def predict(
    songs: Annotated[
        list[Path],
        typer.Argument(metavar="SONG|FOLDER...", help="Audio files, or folders to search for audio files."),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write JSON Lines to FILE instead of printing, and print a summary."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Append to an existing output file, skipping the songs in it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with one row per song.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a PNG with the spectrogram and the genre timeline of one song."),
    ] = None,
    top: TopOption = 3,
    model: ModelOption = None,
    decode: Annotated[
        Literal["inline", "subprocess"],
        typer.Option(help="Where to decode; 'subprocess' isolates decoder crashes.", rich_help_panel=_LIMITS),
    ] = "inline",
    decode_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Timeout of the subprocess for each block of audio.", rich_help_panel=_LIMITS
        ),
    ] = ReadOptions.timeout_seconds,
    max_duration: Annotated[
        float, typer.Option(metavar="SECONDS", help="Maximum duration of a file.", rich_help_panel=_LIMITS)
    ] = ReadOptions.max_duration_seconds,
    max_channels: Annotated[
        int, typer.Option(metavar="N", help="Maximum number of channels.", rich_help_panel=_LIMITS)
    ] = ReadOptions.max_channels,
    max_bytes: Annotated[
        int, typer.Option(metavar="N", help="Maximum size of a file.", rich_help_panel=_LIMITS)
    ] = ReadOptions.max_bytes,
) -> None:
    """Predict the genre of songs.

    Files that cannot be read are reported, the others are still processed, and the exit code is 2.
    """
    from musgenre.models.classifier import GenreClassifier

    if output is None and resume:
        raise ParameterError("--resume requires --output.")
    paths = _audio_paths(songs)
    if plot is not None and (len(paths) != 1 or output is not None):
        raise ParameterError("--plot requires exactly one song, and cannot be combined with --output.")
    reading = ReadOptions(
        max_duration_seconds=max_duration,
        max_channels=max_channels,
        max_bytes=max_bytes,
        decode=decode,
        timeout_seconds=decode_timeout,
    )
    classifier = GenreClassifier.from_pretrained(model, reading=reading)
    if output is None:
        has_failures = _print_predictions(classifier, paths, as_json=as_json, as_csv=as_csv, top=top, plot=plot)
    else:
        has_failures = _write_predictions(classifier, paths, output=output, resume=resume)
    if has_failures:
        raise typer.Exit(2)


def export(
    output: Annotated[Path, typer.Argument(help="ONNX file to write.")],
    *,
    model: ModelOption = None,
) -> None:
    """Export a model to ONNX, from samples to probabilities."""
    from musgenre.models.classifier import GenreClassifier

    classifier = GenreClassifier.from_pretrained(model, device="cpu")
    classifier.export_onnx(output)
    audio = classifier.config.audio
    typer.echo(f"{output}: windows of {audio.window_samples} samples at {audio.sample_rate} Hz")


def demo(
    *,
    output: Annotated[Path, typer.Option(metavar="FILE", help="PNG file to write.")] = Path("musgenre-demo.png"),
    top: TopOption = 3,
) -> None:
    """Predict the genre of the bundled example, and plot its spectrogram and genre timeline."""
    from musgenre.models.classifier import GenreClassifier

    song = Path(__file__).parent.parent / "assets" / "demo.ogg"
    classifier = GenreClassifier.from_pretrained()
    prediction = classifier.predict(song)
    _plot(song, prediction, sample_rate=classifier.config.audio.sample_rate, path=output)
    typer.echo(format_prediction(prediction, top=top))
    typer.echo(f"Spectrogram and timeline: {output}")


def _audio_paths(songs: list[Path]) -> list[str]:
    """Replace folders by the audio files in them, and remove duplicates."""
    from musgenre.datasets.folder import SUFFIXES, audio_files

    paths: dict[str, None] = {}
    for path in songs:
        files = audio_files(path) if path.is_dir() else [path]
        if not files:
            raise ParameterError(f"'{path}' contains no audio files ({', '.join(sorted(SUFFIXES))}).")
        paths.update(dict.fromkeys(map(str, files)))
    return list(paths)


def _print_predictions(
    classifier: GenreClassifier, paths: list[str], *, as_json: bool, as_csv: bool, top: int, plot: Path | None
) -> bool:
    has_failures = False
    # JSON and CSV lines on a terminal would overwrite the progress bar; the table is printed after it has closed.
    bar_visible = not sys.stdout.isatty() or not (as_json or as_csv)
    with (
        prediction_printer(as_json=as_json, as_csv=as_csv, labels=classifier.labels, top=top) as print_prediction,
        silence_decoder() as stderr,
        progress_bar(total=len(paths), stream=stderr, visible=bar_visible) as advance,
    ):
        for result in classifier.predict_iter(paths, on_error="return"):
            if isinstance(result, MusgenreError):
                has_failures = True
                advance(result)
                continue
            print_prediction(result)
            advance(None)
            if plot is not None:
                _plot(paths[0], result, sample_rate=classifier.config.audio.sample_rate, path=plot)
    return has_failures


def _plot(song: str | Path, prediction: Prediction, *, sample_rate: int, path: Path) -> None:
    from musgenre.audio import load
    from musgenre.plotting.timeline import save_overview

    waveform = load(song, sample_rate=sample_rate)
    save_overview(waveform, sample_rate=sample_rate, prediction=prediction, path=path)


def _write_predictions(classifier: GenreClassifier, paths: list[str], *, output: Path, resume: bool) -> bool:
    from musgenre.cli.results import open_results

    with open_results(output, labels=classifier.labels, resume=resume) as results:
        remaining = [path for path in paths if path not in results.done]
        try:
            with silence_decoder() as stderr, progress_bar(total=len(remaining), stream=stderr) as advance:
                for result in classifier.predict_iter(remaining, on_error="return"):
                    results.add(result)
                    advance(None)
        except KeyboardInterrupt as error:
            typer.echo(f"{results.summary()}\nInterrupted. Repeat the command with --resume to continue.", err=True)
            raise typer.Exit(130) from error
        typer.echo(results.summary(), err=True)
        return bool(results.failures)
