"""Prediction of a batch of recordings for any engine: their windows share the network's batches."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from musgenre.audio import AudioSource, AudioWindows
from musgenre.core.config import AudioSpec
from musgenre.models.classifier import GenreClassifier
from musgenre.models.inference import Floats, WindowOutputs, batch_size_for, batched, run_batch
from musgenre.scale.decoding import UNREADABLE, Samples, error_record
from musgenre.scale.filesystems import open_source


def predict_batch(
    batch: Mapping[str, Sequence[Any]],
    *,
    classifier: GenreClassifier | None = None,
    embedding: bool = False,
    windows: bool = False,
    batch_size: int | None = None,
    filesystem: Any = None,
) -> dict[str, list[Any]]:
    """Predict a batch of recordings, whose windows share the network's batches.

    Recordings that cannot be read get an ``error``; the others are still predicted. The function can be pickled and
    depends on no engine; :func:`~musgenre.scale.predict_collection` passes it to Ray. Load the classifier once in each
    process.

    Args:
        batch: Columns of a dict or a pandas ``DataFrame``: ``path``, paths or URIs of files; or ``bytes``, the content
            of files; or ``samples``, mono float32 at the model's rate. ``id`` identifies the recordings, and defaults
            to ``path``.
        classifier: The classifier; ``None`` loads the bundled classifier at each call.
        embedding: Whether to return the mean of the backbone's outputs.
        windows: Whether to return the probabilities of each window.
        batch_size: Windows in a batch, of any recordings; by default 30 s of audio on a CPU, 64 windows on a GPU.
        filesystem: PyArrow's file system for paths that are not URIs; ``None`` is the local disk.

    Returns:
        Columns ``id``, ``label``, ``probability``, ``probabilities`` (a dict by label), ``duration_seconds``, ``error``
        (``None``, or a dict of ``kind`` and ``message``), ``seconds`` spent and, if requested, ``embedding`` and
        ``windows``. In rows with an error, all but ``id``, ``error`` and ``seconds`` are ``None``.

    Example:
        >>> columns = predict_batch({"id": ["noise"], "samples": [np.random.default_rng(0).normal(size=66_150)]})
        >>> columns["id"], columns["duration_seconds"], columns["error"]
        (['noise'], [3.0], [None])
        >>> predict_batch({"path": ["/nowhere.wav"]})["error"]
        [{'kind': 'AudioFileError', 'message': '/nowhere.wav: there is no such file; check the path.'}]
    """
    model = classifier or GenreClassifier.from_pretrained()
    tracks = _tracks(batch)
    function = model.function(embedding=embedding)
    size = batch_size or batch_size_for(model.device, window_seconds=model.config.audio.window_seconds, is_shared=False)
    with contextlib.closing(_windows(tracks, model, filesystem=filesystem)) as all_windows:
        for window_batch in batched(all_windows, size):
            started = time.perf_counter()
            keys, rows = run_batch(window_batch, function, device=model.device)
            share = (time.perf_counter() - started) / len(keys)
            for (track, start), row in zip(keys, rows, strict=True):
                track.starts.append(start)
                track.rows.append(row)
                track.seconds += share
    result = [track.row(model.labels, embedding=embedding, windows=windows) for track in tracks]
    return {name: [row[name] for row in result] for name in _names(embedding=embedding, windows=windows)}


@dataclass
class _Track:
    """A recording of a batch, and its results so far."""

    id: str
    source: dict[str, Any]
    error: dict[str, str] | None = None
    seconds: float = 0.0
    duration_seconds: float = 0.0
    starts: list[float] = field(default_factory=list)
    rows: list[Floats] = field(default_factory=list)

    @contextlib.contextmanager
    def open(self, spec: AudioSpec, *, filesystem: Any) -> Iterator[AudioSource]:
        """Open the recording from its samples, bytes or path."""
        if self.source.get("samples") is not None:
            yield self.source["samples"], spec.sample_rate
        elif self.source.get("bytes") is not None:
            yield io.BytesIO(self.source["bytes"])
        else:
            with open_source(self.source["path"], filesystem=filesystem) as source:
                yield source

    def row(self, labels: Sequence[str], *, embedding: bool, windows: bool) -> dict[str, Any]:
        """Return the columns of the recording."""
        row: dict[str, Any] = dict.fromkeys(_names(embedding=embedding, windows=windows))
        if self.error is None:
            try:
                row |= self._results(labels, embedding=embedding, windows=windows)
            except UNREADABLE as error:
                self.error = error_record(error)
        return row | {"id": self.id, "error": self.error, "seconds": self.seconds}

    def _results(self, labels: Sequence[str], *, embedding: bool, windows: bool) -> dict[str, Any]:
        probabilities, embeddings = np.split(np.stack(self.rows), [len(labels)], axis=1)
        outputs = WindowOutputs(np.array(self.starts), probabilities, self.duration_seconds)
        prediction = outputs.to_prediction(labels)
        names = ("label", "probability", "probabilities", "duration_seconds")
        row = {name: getattr(prediction, name) for name in names}
        if embedding:
            row["embedding"] = WindowOutputs(outputs.start_seconds, embeddings, self.duration_seconds).to_embedding()
        if windows:
            pairs = zip(self.starts, probabilities, strict=True)
            row["windows"] = [{"start_seconds": start, "probabilities": values} for start, values in pairs]
        return row


def _tracks(batch: Mapping[str, Sequence[Any]]) -> list[_Track]:
    columns = {name: list(batch[name]) for name in ("path", "bytes", "samples", "error", "seconds") if name in batch}
    ids = [str(value) for value in batch["id" if "id" in batch else "path"]]
    tracks = []
    for index, track_id in enumerate(ids):
        source = {name: values[index] for name, values in columns.items()}
        tracks.append(_Track(track_id, source, error=source.get("error"), seconds=source.get("seconds", 0.0)))
    return tracks


def _windows(
    tracks: Sequence[_Track], model: GenreClassifier, *, filesystem: Any
) -> Generator[tuple[tuple[_Track, float], Samples]]:
    """Yield the windows of all recordings in order, and store the errors of those that cannot be read."""
    spec = model.config.audio
    for track in tracks:
        if track.error is not None:
            continue
        started = time.perf_counter()
        try:
            with track.open(spec, filesystem=filesystem) as source:
                audio = AudioWindows(source, spec, reading=model.reading)
                with contextlib.closing(iter(audio)) as windows:
                    for start, window in windows:
                        track.seconds += time.perf_counter() - started
                        yield (track, start), window
                        started = time.perf_counter()
                track.duration_seconds = audio.duration_seconds
        except UNREADABLE as error:
            track.error = error_record(error)
        track.seconds += time.perf_counter() - started


def _names(*, embedding: bool, windows: bool) -> list[str]:
    optional = ["embedding"] * embedding + ["windows"] * windows
    return ["id", "label", "probability", "probabilities", "duration_seconds", *optional, "error", "seconds"]
