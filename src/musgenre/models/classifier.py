"""A trained network with everything it takes to use it on songs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import numpy.typing as npt

from musgenre.audio import AudioSource
from musgenre.core.config import Prediction
from musgenre.core.errors import MusgenreError
from musgenre.models.pretrained import Pretrained
from musgenre.models.songs import Floats, Listener, OnError, Song, answering

if TYPE_CHECKING:
    from musgenre.models.explain import Explanation, Method


class GenreClassifier(Pretrained):
    """Tells the genre of songs.

    Most users call :meth:`from_pretrained` or :func:`musgenre.finetune` instead of the constructor.

    Args:
        network: The trained network.
        config: What the network is and how it hears.
        device: Where it runs, such as ``"cuda"``; by default CUDA where there is a GPU, else the CPU.
        runtime: What computes :meth:`predict`: ``"torch"``, or ``"onnx"`` for ONNX Runtime, which is an extra, takes
            some seconds to begin with and needs about a third less time on a CPU then.
        reading: How far files are trusted: limits of length, channels and bytes, and whether another process decodes
            them (:class:`~musgenre.audio.options.ReadOptions`).

    Attributes:
        network: The network, in evaluation mode.
        config: Its configuration.
        reading: How far files are trusted.

    Example:
        >>> import numpy as np
        >>> classifier = GenreClassifier.from_pretrained()
        >>> noise = np.random.default_rng(0).normal(size=22_050 * 5)
        >>> prediction = classifier.predict((noise, 22_050))
        >>> prediction.label in classifier.labels, prediction.windows.probabilities.shape
        (True, (2, 10))
    """

    @overload  # to the type checker a str is an iterable of str
    def predict(  # type: ignore[overload-overlap]
        self, source: AudioSource, *, batch_size: int | None = ..., on_error: Literal["raise"] = ...
    ) -> Prediction: ...
    @overload
    def predict(
        self, source: Iterable[AudioSource], *, batch_size: int | None = ..., on_error: Literal["raise"] = ...
    ) -> list[Prediction]: ...
    @overload  # to the type checker a str is an iterable of str
    def predict(  # type: ignore[overload-overlap]
        self, source: AudioSource, *, batch_size: int | None = ..., on_error: Literal["return"]
    ) -> Prediction | MusgenreError: ...
    @overload
    def predict(
        self, source: Iterable[AudioSource], *, batch_size: int | None = ..., on_error: Literal["return"]
    ) -> list[Prediction | MusgenreError]: ...
    def predict(
        self,
        source: AudioSource | Iterable[AudioSource],
        *,
        batch_size: int | None = None,
        on_error: OnError = "raise",
    ) -> Prediction | MusgenreError | list[Prediction] | list[Prediction | MusgenreError]:
        """Predicts the genre of one song, or of each of several.

        A song is decoded in blocks and heard window by window, so memory does not grow with its length.

        Args:
            source: One song (a path, a binary file object, or ``(waveform, rate)``), or an iterable of songs.
            batch_size: Windows that go through the network together, at least 1; by default 64 on a GPU, and on a
                CPU 10, or 5 where several threads share a song.
            on_error: ``"raise"`` raises the first error; ``"return"`` puts the error in the song's place.

        Returns:
            A :class:`~musgenre.core.config.Prediction` for one song, a list in the given order for several.

        Raises:
            AudioFileError: A file is missing, damaged or no audio.
            AudioError: The samples cannot be used: too short, not finite.
            ParameterError: An argument is out of range.
        """
        work = answering(self._predict, on_error=on_error)
        return self._listener(batch_size).ask(source, work)  # type: ignore[return-value]

    @overload
    def predict_iter(
        self, sources: Iterable[AudioSource], *, batch_size: int | None = ..., on_error: Literal["raise"] = ...
    ) -> Iterator[Prediction]: ...
    @overload
    def predict_iter(
        self, sources: Iterable[AudioSource], *, batch_size: int | None = ..., on_error: Literal["return"]
    ) -> Iterator[Prediction | MusgenreError]: ...
    def predict_iter(
        self, sources: Iterable[AudioSource], *, batch_size: int | None = None, on_error: OnError = "raise"
    ) -> Iterator[Prediction | MusgenreError]:
        """Predicts songs one after the other, in the order given, and yields each as soon as it is done.

        So a collection of any size takes the memory of a few songs. ``sources`` is gone through no further than those
        few ahead of what is asked for.

        Args:
            sources: The songs.
            batch_size: As in :meth:`predict`.
            on_error: ``"raise"`` ends with the first error; ``"return"`` yields it in the song's place, with the song
                as its ``path``, and goes on.

        Raises:
            AudioFileError, AudioError, ParameterError: As :meth:`predict`.
        """
        work = answering(self._predict, on_error=on_error)
        return self._listener(batch_size).ask_each(sources, work)

    def predict_proba(self, sources: Iterable[AudioSource], *, batch_size: int | None = None) -> Floats:
        """Returns the probabilities of several songs.

        Args:
            sources: The songs.
            batch_size: Windows that go through the network together, at least 1; by default 64 on a GPU, and on a
                CPU 10, or 5 where several threads share a song.

        Shape:
            - Output: ``(songs, classes)``, columns in the order of :attr:`labels`, each row summing to 1

        Raises:
            AudioFileError, AudioError, ParameterError: As :meth:`predict`.
        """
        rows = [list(one.probabilities.values()) for one in self.predict_iter(sources, batch_size=batch_size)]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.labels))

    def embed(
        self, source: AudioSource | Iterable[AudioSource], *, batch_size: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Returns the backbone's vector, averaged over a song's windows: a summary of how it sounds.

        Args:
            source: One song or an iterable of songs.
            batch_size: Windows that go through the network together, at least 1; by default 64 on a GPU, and on a
                CPU 10, or 5 where several threads share a song.

        Shape:
            - Output: ``(embedding_size,)`` for one song, ``(songs, embedding_size)`` for several

        Raises:
            AudioFileError, AudioError, ParameterError: As :meth:`predict`.
        """
        vectors = self._listener(batch_size).ask(source, answering(self._embed, on_error="raise"))
        return np.array(vectors, np.float32).reshape(-1, self.embedding_size) if isinstance(vectors, list) else vectors

    def explain(
        self, source: AudioSource, *, method: Method = "grad-cam", label: str | None = None, window: int | None = None
    ) -> Explanation:
        """Tells which parts of a window's picture spoke for a genre; with the extra ``explain``.

        Args:
            source: One song.
            method: ``"grad-cam"`` is quick and coarse; ``"integrated-gradients"`` weighs each cell of the picture, and
                takes any network. :class:`~musgenre.models.explain.Explanation` says what they mean.
            label: The genre; by default the song's.
            window: The number of the window, from 0; by default the one that gives the genre the highest probability.

        Raises:
            UnknownNameError: There is no such method or label.
            ParameterError: There is no such window, the extra is not installed, or the network has no maps for
                ``"grad-cam"``.
            AudioFileError, AudioError: As :meth:`predict`.
        """
        from musgenre.models.explain import Explainer

        explainer = Explainer(self.network, self.config, method=method)
        return explainer.explain(source, prediction=self.predict(source), label=label, window=window)

    def _listener(self, batch_size: int | None) -> Listener:
        return Listener(audio=self.config.audio, device=self.device, batch_size=batch_size, reading=self.reading)

    def _predict(self, song: Song) -> Prediction:
        logits, temperature = self._inference.of(self.network), self.config.temperature
        return song.predict(lambda batch: (logits(batch).double() / temperature).softmax(dim=1), labels=self.labels)

    def _embed(self, song: Song) -> npt.NDArray[np.float32]:
        _, vectors = song.answers(lambda batch: self.network.backbone(self.network.feature(batch)))
        mean: npt.NDArray[np.float32] = vectors.mean(axis=0).astype(np.float32)
        return mean
