"""What each engine does with a batch of songs: the network over the windows of all of them together."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from musgenre.audio import AudioSource, AudioWindows
from musgenre.core.config import AudioSpec, Prediction, Windows
from musgenre.core.threads import Workers
from musgenre.metrics import track_probabilities
from musgenre.models.classifier import GenreClassifier
from musgenre.models.compiled import fused
from musgenre.models.hearing import batch_size_for, heard
from musgenre.scale.decoding import UNREADABLE, Samples, told
from musgenre.scale.filesystems import opened

Floats = npt.NDArray[np.float64]


def predict_batch(
    batch: Mapping[str, Sequence[Any]],
    *,
    classifier: GenreClassifier | None = None,
    embedding: bool = False,
    windows: bool = False,
    batch_size: int | None = None,
    filesystem: Any = None,
) -> dict[str, list[Any]]:
    """Predicts a batch of songs, whose windows go through the network together; a song that fails costs itself alone.

    It can be pickled, knows no engine, and is what :func:`~musgenre.scale.predict_collection` has Ray call. Load the
    classifier once in each process and hand it over.

    Args:
        batch: Columns of a dict or a pandas ``DataFrame``: ``path``, paths or URIs of songs; or ``bytes``, the content
            of their files; or ``samples``, mono float32 at the model's rate. ``id`` names the songs; it may be left
            out where there is a ``path``.
        classifier: The classifier; ``None`` loads the one in the package, at each call.
        embedding: Whether the mean of the backbone's vectors is wanted.
        windows: Whether what was said of each window is wanted.
        batch_size: Windows that go through the network together, of whichever songs; by default 10 on a CPU, 64 on a
            GPU.
        filesystem: PyArrow's file system of those paths that are no URIs; ``None`` is the local disk.

    Returns:
        Columns ``id``, ``label``, ``probability``, ``probabilities`` (a dict by label), ``duration_seconds``, ``error``
        (``None``, or a dict of ``kind`` and ``message``), ``seconds`` spent and, if wanted, ``embedding`` and
        ``windows``. Where there is an error, all but ``id``, ``error`` and ``seconds`` are ``None``.

    Example:
        >>> columns = predict_batch({"id": ["noise"], "samples": [np.random.default_rng(0).normal(size=66_150)]})
        >>> columns["id"], columns["duration_seconds"], columns["error"]
        (['noise'], [3.0], [None])
        >>> predict_batch({"path": ["/nowhere.wav"]})["error"]
        [{'kind': 'AudioFileError', 'message': '/nowhere.wav: there is no such file; check the path.'}]
    """
    model = classifier or GenreClassifier.from_pretrained()
    tracks = _tracks(batch)
    answered = heard(
        _windows(tracks, model, filesystem=filesystem),
        _asked(model, embedding=embedding),
        workers=Workers(),
        batch_size=batch_size or batch_size_for(model.device, shared=False),
        device=model.device,
    )
    for places, (probabilities, vectors, seconds) in answered:
        for row, (track, start) in enumerate(places):
            track.starts.append(start)
            track.probabilities.append(probabilities[row])
            track.seconds += seconds / len(places)
            if embedding:
                track.vectors.append(vectors[row])
    rows = [track.row(model.labels, embedding=embedding, windows=windows) for track in tracks]
    return {name: [row[name] for row in rows] for name in _names(embedding=embedding, windows=windows)}


@dataclass
class _Track:
    """A song of a batch, and what is known of it so far."""

    id: str
    source: dict[str, Any]
    error: dict[str, str] | None = None
    seconds: float = 0.0
    duration_seconds: float = 0.0
    starts: list[float] = field(default_factory=list)
    probabilities: list[Floats] = field(default_factory=list)
    vectors: list[Floats] = field(default_factory=list)

    @contextlib.contextmanager
    def opened(self, spec: AudioSpec, *, filesystem: Any) -> Iterator[AudioSource]:
        """Gives the song in the form in which it came."""
        if self.source.get("samples") is not None:
            yield self.source["samples"], spec.sample_rate
        elif self.source.get("bytes") is not None:
            yield io.BytesIO(self.source["bytes"])
        else:
            with opened(self.source["path"], filesystem=filesystem) as source:
                yield source

    def row(self, labels: Sequence[str], *, embedding: bool, windows: bool) -> dict[str, Any]:
        """Returns the song's row."""
        row: dict[str, Any] = dict.fromkeys(_names(embedding=embedding, windows=windows))
        row |= {"id": self.id, "error": self.error, "seconds": self.seconds}
        if self.error is not None:
            return row
        heard = Windows(np.array(self.starts), np.stack(self.probabilities))
        means = track_probabilities(heard.probabilities).tolist()
        said = Prediction(dict(zip(labels, means, strict=True)), windows=heard, duration_seconds=self.duration_seconds)
        row |= {name: getattr(said, name) for name in ("label", "probability", "probabilities", "duration_seconds")}
        if embedding:
            row["embedding"] = np.stack(self.vectors).mean(axis=0).astype(np.float32)
        if windows:
            pairs = zip(self.starts, self.probabilities, strict=True)
            row["windows"] = [{"start_seconds": start, "probabilities": one} for start, one in pairs]
        return row


def _tracks(batch: Mapping[str, Sequence[Any]]) -> list[_Track]:
    columns = {name: list(batch[name]) for name in ("path", "bytes", "samples", "error", "seconds") if name in batch}
    ids = [str(one) for one in batch["id" if "id" in batch else "path"]]
    tracks = []
    for number, one in enumerate(ids):
        source = {name: values[number] for name, values in columns.items()}
        tracks.append(_Track(one, source, error=source.get("error"), seconds=source.get("seconds", 0.0)))
    return tracks


def _windows(
    tracks: Sequence[_Track], model: GenreClassifier, *, filesystem: Any
) -> Iterator[tuple[tuple[_Track, float], Samples]]:
    """Yields the windows of all songs, one song after the other, and marks the songs that cannot be read."""
    spec = model.config.audio
    for track in tracks:
        if track.error is not None:
            continue
        begun = time.perf_counter()
        try:
            with track.opened(spec, filesystem=filesystem) as source:
                audio = AudioWindows(source, spec, reading=model.reading)
                for start, window in audio:
                    track.seconds += time.perf_counter() - begun
                    yield (track, start), window
                    begun = time.perf_counter()
                track.duration_seconds = audio.duration_seconds
        except UNREADABLE as error:
            track.error = told(error)
        track.seconds += time.perf_counter() - begun


def _asked(model: GenreClassifier, *, embedding: bool) -> Callable[[Tensor], tuple[Floats, Floats, float]]:
    """Returns what gives of a batch of windows their probabilities, their vectors, and the seconds that both took."""
    network = fused(model.network)

    def answer(batch: Tensor) -> tuple[Floats, Floats, float]:
        begun = time.perf_counter()
        vectors = network.backbone(network.feature(batch))
        probabilities = (network.head(vectors).double() / model.config.temperature).softmax(dim=1).cpu().numpy()
        kept = vectors.double().cpu().numpy() if embedding else np.empty((len(batch), 0))
        return probabilities, kept, time.perf_counter() - begun

    return answer


def _names(*, embedding: bool, windows: bool) -> list[str]:
    wanted = ["embedding"] * embedding + ["windows"] * windows
    return ["id", "label", "probability", "probabilities", "duration_seconds", *wanted, "error", "seconds"]
