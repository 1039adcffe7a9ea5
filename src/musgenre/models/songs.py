"""Songs as a classifier is given them: one or several, each asked something, and some that cannot be read."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musgenre.audio import AudioSource, AudioWindows, ReadOptions
from musgenre.core.config import AudioSpec, Prediction, Windows
from musgenre.core.errors import MusgenreError, ParameterError, WeightsError
from musgenre.core.threads import Workers
from musgenre.metrics import track_probabilities
from musgenre.models import hearing

Floats = npt.NDArray[np.float64]
OnError = Literal["raise", "return"]
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Listener:
    """How songs are heard.

    Attributes:
        audio: Rate and windows.
        device: Where the windows are brought.
        batch_size: Windows that are answered together, at least 1; ``None`` is what suits the device.
        reading: How far files are trusted.

    Raises:
        ParameterError: ``batch_size`` is below 1.
    """

    audio: AudioSpec
    device: torch.device
    batch_size: int | None = None
    reading: ReadOptions | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ParameterError(f"batch_size must be at least 1, not {self.batch_size!r}.")

    def ask(self, source: AudioSource | Iterable[AudioSource], work: Callable[[Song], R]) -> R | list[R]:
        """Returns ``work(song)`` of one song, or a list of that for several, in order.

        Raises:
            ParameterError: ``source`` is neither a song nor iterable.
        """
        if is_one(source):
            return hearing.alone(cast(AudioSource, source), self._heard_by(work), device=self.device)
        return list(self.ask_each(source, work))

    def ask_each(self, sources: AudioSource | Iterable[AudioSource], work: Callable[[Song], R]) -> Iterator[R]:
        """Yields ``work(song)`` of each of several songs, in order; a few are heard before they are asked for.

        Raises:
            ParameterError: ``sources`` is one song.
        """
        if is_one(sources):
            raise ParameterError("Expected an iterable of songs, got one song: put it in a list.")
        return hearing.each(cast(Iterable[AudioSource], sources), self._heard_by(work), device=self.device)

    def _heard_by(self, work: Callable[[Song], R]) -> Callable[[AudioSource, Workers], R]:
        return lambda source, workers: work(Song(source, self, workers=workers))


class Song:
    """A song that a :class:`Listener` hears.

    Args:
        source: What it comes from.
        listener: How it is heard.
        workers: Who does it.

    Attributes:
        path: The file, or ``None`` where it has no name.
    """

    def __init__(self, source: AudioSource, listener: Listener, *, workers: Workers) -> None:
        self.path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
        self._listener = listener
        self._workers = workers
        self._audio = AudioWindows(source, listener.audio, ahead=workers.several, reading=listener.reading)

    @property
    def duration_seconds(self) -> float:
        """Seconds heard so far; the song's length once it was heard."""
        return self._audio.duration_seconds

    def predict(self, probabilities: Callable[[Tensor], Tensor], *, labels: Sequence[str]) -> Prediction:
        """Returns the song's genre: the mean of what a network says of its windows.

        Args:
            probabilities: From a batch of windows to their probabilities.
            labels: The genres.

        Shape:
            - probabilities: ``(batch, samples)`` to ``(batch, labels)``
        """
        windows = Windows(*self.answers(probabilities))
        track = track_probabilities(windows.probabilities)
        return Prediction(
            dict(zip(labels, track.tolist(), strict=True)),
            windows=windows,
            duration_seconds=self.duration_seconds,
            path=self.path,
        )

    def answers(self, network: Callable[[Tensor], Tensor]) -> tuple[Floats, Floats]:
        """Returns where the windows start, in seconds, and what a network says of each.

        Args:
            network: From a batch of windows to a batch of rows.

        Shape:
            - network: ``(batch, samples)`` to ``(batch, values)``
            - Output: ``(windows,)`` and ``(windows, values)``

        Raises:
            WeightsError: An answer is not finite.
        """

        def rows(batch: Tensor) -> Floats:
            answered: Floats = network(batch).double().cpu().numpy()
            if not np.isfinite(answered).all():
                raise WeightsError("The network answers with what is no finite number: its weights are damaged.")
            return answered

        device = self._listener.device
        size = self._listener.batch_size or hearing.batch_size_for(device, shared=self._workers.several)
        batches = hearing.heard(self._audio, rows, workers=self._workers, batch_size=size, device=device)
        starts, answers = zip(*batches, strict=True)
        return np.concatenate(starts), np.concatenate(answers)


@overload
def answering(work: Callable[[Song], R], *, on_error: Literal["raise"]) -> Callable[[Song], R]: ...
@overload
def answering(work: Callable[[Song], R], *, on_error: OnError) -> Callable[[Song], R | MusgenreError]: ...
def answering(work: Callable[[Song], R], *, on_error: OnError) -> Callable[[Song], R | MusgenreError]:
    """Returns ``work``, which lets an error know its song and, with ``on_error="return"``, gives it back as a value.

    Raises:
        ParameterError: ``on_error`` is neither ``"raise"`` nor ``"return"``.
    """
    if on_error not in ("raise", "return"):
        raise ParameterError(f"on_error must be 'raise' or 'return', not {on_error!r}.")

    def answer(song: Song) -> R | MusgenreError:
        try:
            return work(song)
        except MusgenreError as error:
            error.path = song.path
            if on_error == "return":
                _let_go(error)
                return error
            raise

    return answer


def is_one(source: object) -> bool:
    """Tells one song from several, which come in an iterable.

    Raises:
        ParameterError: It is neither.
    """
    if isinstance(source, str | os.PathLike | tuple) or hasattr(source, "read"):
        return True
    if not isinstance(source, Iterable):
        raise ParameterError(
            "Expected a path, a binary file object, (waveform, rate) or an iterable of these, got "
            f"{type(source).__name__}."
        )
    return False


def _let_go(error: BaseException) -> None:
    """Frees what the frames behind an error hold, such as decoded blocks; which lines they were stays."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next  # without the frame that is still running
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
