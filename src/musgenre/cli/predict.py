"""``musgenre predict``, ``musgenre export`` and ``musgenre demo``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musgenre.audio.options import ReadOptions
from musgenre.cli.fields import command_of
from musgenre.cli.formatters import shown, watched
from musgenre.cli.options import (
    Decode,
    Decoding,
    MaxBytes,
    MaxChannels,
    MaxDuration,
    Model,
    Top,
    line,
    quiet_decoder,
)
from musgenre.core.errors import MusgenreError, ParameterError

if TYPE_CHECKING:
    from musgenre.core.config import Prediction
    from musgenre.models.classifier import GenreClassifier


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What ``musgenre predict`` takes."""

    songs: Annotated[
        list[Path],
        typer.Argument(metavar="SONG|FOLDER...", help="Audio files of any length and rate, or folders of them."),
    ]
    output: Annotated[
        Path | None, typer.Option(help="Write a line of JSON a song here, as they come, and print a summary.")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with OUTPUT: what it has is not predicted again.")] = (
        False
    )
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a header and a row a song.")] = False
    plot: Annotated[
        Path | None, typer.Option(help="Draw one song's spectrogram over its genres here, as PNG.", show_default=False)
    ] = None
    top: Top = 3
    model: Model = None
    decode: Decoding = Decode.inline
    max_duration: MaxDuration = ReadOptions.max_duration_seconds
    max_channels: MaxChannels = ReadOptions.max_channels
    max_bytes: MaxBytes = ReadOptions.max_bytes

    def reading(self) -> ReadOptions:
        """Returns how far the songs are trusted."""
        return ReadOptions(
            max_duration_seconds=self.max_duration,
            max_channels=self.max_channels,
            max_bytes=self.max_bytes,
            decode=self.decode.value,
        )


@command_of(PredictOptions)
def predict(options: PredictOptions) -> None:
    """Predict the genre of songs. A song that cannot be read costs itself alone; the exit code is then 2."""
    from musgenre.models.classifier import GenreClassifier

    if options.output is None and options.resume:
        raise ParameterError("--resume goes on with what --output names: give it as well.")
    songs = _found(options.songs)
    if options.plot is not None and (len(songs) != 1 or options.output is not None):
        raise ParameterError("--plot draws one song: give one, and leave --output out.")
    classifier = GenreClassifier.from_pretrained(options.model, reading=options.reading())
    if options.output is None:
        failed = _print(classifier, songs, options=options)
    else:
        failed = _write(classifier, songs, output=options.output, resume=options.resume)
    if failed:
        raise typer.Exit(2)


def _found(given: list[Path]) -> list[str]:
    """Returns the songs, each once, with those of a folder in its place."""
    from musgenre.datasets.folder import SUFFIXES, audio_files

    songs: dict[str, None] = {}
    for path in given:
        found = audio_files(path) if path.is_dir() else [path]
        if not found:
            raise ParameterError(f"The folder '{path}' holds no audio file ({', '.join(sorted(SUFFIXES))}).")
        songs.update(dict.fromkeys(map(str, found)))
    return list(songs)


def _print(classifier: GenreClassifier, songs: list[str], *, options: PredictOptions) -> bool:
    failed = False
    # At a terminal, lines would be written through the bar; the table waits until it is gone.
    free = not sys.stdout.isatty() or not (options.as_json or options.as_csv)
    printed = shown(as_json=options.as_json, as_csv=options.as_csv, labels=classifier.labels, top=options.top)
    with printed as show, quiet_decoder() as screen:
        predictions = classifier.predict_iter(songs, on_error="return")
        results, complain = watched(predictions, total=len(songs), screen=screen, free=free)
        for result in results:
            if isinstance(result, MusgenreError):
                failed = True
                complain(result)
            else:
                show(result)
                if options.plot is not None:
                    _draw(songs[0], result, sample_rate=classifier.config.audio.sample_rate, path=options.plot)
    return failed


def _draw(song: str | Path, prediction: Prediction, *, sample_rate: int, path: Path) -> None:
    from musgenre.audio import load
    from musgenre.plotting.timeline import save_overview

    waveform = load(song, sample_rate=sample_rate)
    save_overview(waveform, sample_rate=sample_rate, prediction=prediction, path=path)


def _write(classifier: GenreClassifier, songs: list[str], *, output: Path, resume: bool) -> bool:
    from musgenre.cli.results import results

    with results(output, labels=classifier.labels, resume=resume) as written:
        missing = [song for song in songs if song not in written.done]
        try:
            with quiet_decoder() as screen:
                predictions = classifier.predict_iter(missing, on_error="return")
                for result in watched(predictions, total=len(missing), screen=screen)[0]:
                    written.add(result)
        except KeyboardInterrupt as stopped:
            typer.echo(f"{written.summary()}\nmusgenre: stopped. Go on by the same command with --resume.", err=True)
            raise typer.Exit(130) from stopped
        typer.echo(written.summary(), err=True)
        return bool(written.failures)


def export(
    output: Annotated[Path, typer.Argument(help="The ONNX file that is written.")],
    *,
    model: Model = None,
) -> None:
    """Write a model as one ONNX graph, from samples to probabilities, for programs without PyTorch."""
    from musgenre.models.classifier import GenreClassifier

    classifier = GenreClassifier.from_pretrained(model, device="cpu")
    classifier.export_onnx(output)
    audio = classifier.config.audio
    typer.echo(f"{output}: windows of {audio.window_samples} samples at {audio.sample_rate} Hz")


def demo(
    *,
    output: Annotated[Path, typer.Option(help="Where the picture is written.")] = Path("musgenre-demo.png"),
    top: Top = 3,
) -> None:
    """Predict a short piece that comes with the package, and draw its spectrogram over its genres."""
    from musgenre.models.classifier import GenreClassifier

    song = Path(__file__).parent.parent / "assets" / "demo.ogg"
    classifier = GenreClassifier.from_pretrained()
    prediction = classifier.predict(song)
    _draw(song, prediction, sample_rate=classifier.config.audio.sample_rate, path=output)
    typer.echo(line(prediction, top))
    typer.echo(f"Spectrogram and timeline: {output}")
