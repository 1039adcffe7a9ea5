"""Stored spectrograms: the log-mel spectrograms of a dataset in one file, for music whose audio cannot be shared.

A file is a NumPy archive (``.npz``) with these arrays, of which those marked * may be missing:

================================================ ========== ===========================================================
array                                            shape      meaning
================================================ ========== ===========================================================
``track_id``                                     (tracks,)  name of each track, unique
``levels``, uint8                                (tracks,   level of each band and column; 255 is the maximum of the
                                                 bands,     track, and 0 is ``floor_db`` below it
                                                 columns)
``floor_db``                                     (tracks,)  dynamic range, below 0: usually -80
``peak_db``                                      (tracks,)  maximum of the track, in decibels re a power of 1
``frames``                                       (tracks,)  number of frames of the complete spectrogram, of which the
                                                            columns are an even selection
``columns`` *                                    (tracks,)  number of columns that are used; by default all
``duration_seconds`` *                           (tracks,)  duration; by default estimated from ``frames``
``label``, ``group`` *                           (tracks,)  genre and group (such as the artist); ``""`` is unknown
``sample_rate``, ``n_fft``, ``hop_length`` *     ()         of the complete spectrogram; by default 22,050 Hz, 2048, 512
``f_min_hz``, ``f_max_hz`` *                     ()         lower and upper edge of the bands; by default 0 Hz and half
                                                            the sample rate
================================================ ========== ===========================================================

The level in decibels is ``floor_db * (1 - levels / 255) + peak_db``. The complete spectrogram is that of
``librosa.feature.melspectrogram``: centred Hann windows, Slaney's mel scale and normalisation, power. Column ``c`` of
``columns`` is its frame ``floor((c + 0.5) * frames / (columns + 0.5))``, which is frame ``c`` if there are as many.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from musgenre.audio.windows import ClosingIterator, load
from musgenre.core.config import AudioSpec
from musgenre.core.errors import AudioError, DatasetError
from musgenre.core.files import atomic_write
from musgenre.datasets.base import Track, TrackDataset

if TYPE_CHECKING:
    from musgenre.transforms.spectral import MelSpectrogram

Floats = npt.NDArray[np.float32]

SPACING_TOLERANCE = 0.03
"""Largest relative difference between the column spacing of a stored spectrogram and the hop of a feature."""

_STEPS = 255
_FLOOR_DB = -80.0
_AMIN = 1e-10


@dataclass(frozen=True)
class MelSettings:
    """Settings of a mel spectrogram that a network's feature and a stored spectrogram must share.

    Attributes:
        sample_rate: Sample rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        n_mels: Number of bands.
        f_min_hz: Lower edge of the lowest band, in hertz.
        f_max_hz: Upper edge of the highest band, in hertz.
    """

    sample_rate: int
    n_fft: int
    n_mels: int
    f_min_hz: float
    f_max_hz: float

    @classmethod
    def of(cls, mel: MelSpectrogram) -> MelSettings:
        """Return the settings of a transform."""
        return cls(**{field.name: getattr(mel, field.name) for field in fields(cls)})

    def describe(self, spacing: float) -> str:
        """Return a description for an error message.

        Args:
            spacing: Samples from one frame to the next.
        """
        return (
            f"{self.n_mels} bands from {self.f_min_hz:,.0f} to {self.f_max_hz:,.0f} Hz, n_fft {self.n_fft}, a frame "
            f"every {spacing:,.0f} samples at {self.sample_rate:,} Hz"
        )


@dataclass(frozen=True, eq=False)
class StoredSpectrogram:
    """The log-mel spectrogram of a recording, from which windows are cut as from its audio.

    :meth:`musgenre.GenreClassifier.predict` accepts one in place of a recording, if the network's feature is a
    :class:`~musgenre.features.spectral.MelFeature` with the same settings.

    Args:
        levels: Level of each band and column.
        floor_db: Decibels of level 0 relative to the maximum, below 0.
        peak_db: Decibels of level 255, re a power of 1.
        frames: Number of frames of the complete spectrogram.
        hop_length: Samples between these frames.
        duration_seconds: Duration of the recording.
        settings: Settings of the spectrogram.

    Shape:
        - levels: ``(n_mels, columns)``, uint8

    Example:
        >>> settings = MelSettings(22_050, n_fft=2048, n_mels=2, f_min_hz=0.0, f_max_hz=11_025.0)
        >>> spectrogram = StoredSpectrogram(
        ...     np.array([[0, 255, 0], [255, 0, 0]], np.uint8),
        ...     floor_db=-80.0,
        ...     peak_db=10.0,
        ...     frames=3,
        ...     hop_length=512,
        ...     duration_seconds=0.05,
        ...     settings=settings,
        ... )
        >>> spectrogram.decibels()
        array([[-70.,  10., -70.],
               [ 10., -70., -70.]], dtype=float32)
        >>> spectrogram.centres().tolist()
        [0, 512, 1024]
    """

    levels: npt.NDArray[np.uint8]
    floor_db: float
    peak_db: float
    frames: int
    hop_length: int
    duration_seconds: float
    settings: MelSettings

    def centres(self) -> npt.NDArray[np.int64]:
        """Return the centre of each column, in samples from the start of the recording."""
        columns = self.levels.shape[1]
        frames: npt.NDArray[np.int64] = np.floor((np.arange(columns) + 0.5) * self.frames / (columns + 0.5)).astype(int)
        return frames * self.hop_length

    @cached_property
    def spacing(self) -> float:
        """Mean distance between the centres of adjacent columns, in samples."""
        centres = self.centres()
        return float(centres[-1] - centres[0]) / (len(centres) - 1) if len(centres) > 1 else float(self.hop_length)

    def decibels(self) -> Floats:
        """Return the levels in decibels re a power of 1.

        Shape:
            - Output: ``(n_mels, columns)``
        """
        return self._scale()[self.levels]

    def window(self, start_seconds: float, *, frames: int) -> Floats:
        """Return the power of successive columns, the first of which is the nearest to a time.

        A window that would extend past the end starts earlier; a spectrogram that is shorter than it is repeated.

        Args:
            start_seconds: Time in seconds from the start of the recording.
            frames: Number of columns, at least 1.

        Shape:
            - Output: ``(n_mels, frames)``
        """
        columns = self.levels.shape[1]
        first = int(np.abs(self.centres() - start_seconds * self.settings.sample_rate).argmin())
        if columns < frames:
            chosen = self.levels[:, (first + np.arange(frames)) % columns]
        else:
            first = min(first, columns - frames)
            chosen = self.levels[:, first : first + frames]
        power: Floats = np.power(10, self._scale() / 10, dtype=np.float32)
        return power[chosen]

    def check(self, mel: MelSpectrogram | None) -> MelSpectrogram:
        """Check that a network's feature can process this spectrogram, and return ``mel``.

        Args:
            mel: The mel spectrogram that the feature starts with; ``None`` if it starts with another one.

        Raises:
            DatasetError: The settings differ, or the spacing of the columns differs from the hop by 3 % or more.
        """
        if mel is None:
            raise DatasetError(
                "The feature of the network is not computed from a mel spectrogram and cannot use stored spectrograms "
                f"({self.settings.describe(self.spacing)}): use 'logmel', 'logmel-image' or 'yamnet-mel', or a dataset "
                "with audio."
            )
        settings = MelSettings.of(mel)
        # Not a ratio: a spectrogram with more columns than frames may have a spacing of 0.
        if settings == self.settings and abs(mel.hop_length - self.spacing) < SPACING_TOLERANCE * self.spacing:
            return mel
        raise DatasetError(
            f"The stored spectrograms ({self.settings.describe(self.spacing)}) do not fit the feature of the network "
            f"({settings.describe(mel.hop_length)}): choose a feature with hop_length={round(self.spacing)} and the "
            "other settings of the stored spectrograms, or a dataset with audio."
        )

    def digest(self) -> str:
        """Return a hash of the spectrogram and its settings."""
        numbers = repr((self.levels.shape, self.floor_db, self.peak_db, self.frames, self.hop_length, self.settings))
        return hashlib.sha256(numbers.encode() + np.ascontiguousarray(self.levels).tobytes()).hexdigest()

    def _scale(self) -> Floats:
        """Return the decibels of each of the 256 levels."""
        return (self.floor_db * (1 - np.arange(_STEPS + 1) / _STEPS) + self.peak_db).astype(np.float32)


class SpectrogramWindows:
    """Windows of a stored spectrogram at the times at which prediction cuts those of the audio.

    Args:
        source: The spectrogram.
        spec: Window and hop.
        mel: The mel spectrogram that the network's feature starts with.

    Attributes:
        duration_seconds: Duration of the recording.

    Raises:
        DatasetError: The spectrogram does not fit the feature.
    """

    def __init__(self, source: StoredSpectrogram, spec: AudioSpec, *, mel: MelSpectrogram | None) -> None:
        self.source = source
        self.spec = spec
        self.frames = source.check(mel).frame_count(spec.window_samples)
        self.duration_seconds = source.duration_seconds

    def __iter__(self) -> ClosingIterator[tuple[float, Floats]]:
        """Yield ``(start_seconds, power)``.

        Shape:
            power: ``(n_mels, frames)``
        """
        starts = [start / self.spec.sample_rate for start in self.spec.window_starts(self.duration_seconds)]
        windows = ((start, self.source.window(start, frames=self.frames)) for start in starts)
        return ClosingIterator(windows, close=windows.close)


def read_spectrograms(path: str | os.PathLike[str]) -> list[Track]:
    """Read a file of spectrograms as tracks without audio, in the order of the file.

    Returns:
        The tracks; a genre that the file does not contain is ``""``.

    Raises:
        DatasetError: The file cannot be read, or is not in the format that this module describes.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as archive:  # .npz is a ZIP archive
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read as a file of spectrograms ({error}).") from error
    _check_arrays(arrays, path)
    levels = arrays["levels"]
    rate = int(arrays.get("sample_rate", 22_050))
    settings = MelSettings(
        sample_rate=rate,
        n_fft=int(arrays.get("n_fft", 2048)),
        n_mels=levels.shape[1],
        f_min_hz=float(arrays.get("f_min_hz", 0.0)),
        f_max_hz=float(arrays.get("f_max_hz", rate / 2)),
    )
    hop = int(arrays.get("hop_length", 512))
    # The number of frames determines the duration to half a hop.
    durations = arrays.get("duration_seconds", (arrays["frames"] - 0.5) * hop / rate)
    unknown = np.full(len(levels), "")
    columns = arrays.get("columns", np.full(len(levels), levels.shape[2]))
    tracks = []
    for row, track_id in enumerate(arrays["track_id"].tolist()):
        spectrogram = StoredSpectrogram(
            levels[row, :, : columns[row]],
            float(arrays["floor_db"][row]),
            float(arrays["peak_db"][row]),
            frames=int(arrays["frames"][row]),
            hop_length=hop,
            duration_seconds=float(durations[row]),
            settings=settings,
        )
        label, group = str(arrays.get("label", unknown)[row]), str(arrays.get("group", unknown)[row]) or None
        tracks.append(Track(track_id, None, label, group, spectrogram.duration_seconds, spectrogram=spectrogram))
    return tracks


def store_spectrograms(
    dataset: TrackDataset,
    path: str | os.PathLike[str],
    *,
    sample_rate: int = 22_050,
    n_fft: int = 2048,
    hop_length: int = 512,
    n_mels: int = 128,
    f_min_hz: float = 0.0,
    f_max_hz: float | None = None,
) -> None:
    """Write the log-mel spectrograms of a dataset's audio, with ids, labels and groups, to one file.

    :class:`~musgenre.datasets.GTZAN` and :class:`~musgenre.datasets.AudioFolder` read it in place of a folder. Levels
    are rounded to 256 steps of the 80 dB below the maximum of the track, that is, by at most 0.16 dB. The audio cannot
    be reconstructed exactly from them.

    Args:
        dataset: The tracks, which have audio.
        path: The file, with the suffix ``.npz``. An existing file is replaced.
        sample_rate: Sample rate to which the audio is converted, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.
        n_mels: Number of mel bands.
        f_min_hz: Lower edge of the lowest band, in hertz.
        f_max_hz: Upper edge of the highest band, in hertz; ``None`` is half the sample rate.

    Raises:
        DatasetError: A track has no audio or cannot be decoded, the suffix is another one, or the file cannot be
            written.
        ParameterError: A setting is out of range.

    Example::

        store_spectrograms(GTZAN("gtzan", scheme="all"), "gtzan.npz", hop_length=1708)
        train = GTZAN("gtzan.npz", split="train")
    """
    import torch

    from musgenre.transforms.spectral import MelSpectrogram

    path = Path(path)
    if path.suffix != ".npz":
        raise DatasetError(f"A file of spectrograms has the suffix .npz, not {path.suffix!r}: {path}.")
    mel = MelSpectrogram(
        sample_rate=sample_rate,
        n_fft=n_fft,
        hop_length=hop_length,
        n_mels=n_mels,
        f_min_hz=f_min_hz,
        f_max_hz=f_max_hz,
    )
    levels, peaks = [], []
    for track in dataset:
        try:
            samples = load(track.file, sample_rate=sample_rate)
        except AudioError as error:
            raise DatasetError(f"{dataset!r}: track {track.id!r} could not be decoded: {error}") from error
        decibels = 10 * np.log10(np.maximum(mel(torch.from_numpy(samples)).numpy(), _AMIN))
        peaks.append(float(decibels.max()))
        levels.append(np.round(_STEPS * (1 - (decibels - peaks[-1]).clip(_FLOOR_DB) / _FLOOR_DB)).astype(np.uint8))
    columns = [level.shape[1] for level in levels]
    padded = np.zeros((len(levels), n_mels, max(columns)), np.uint8)
    for row, level in zip(padded, levels, strict=True):
        row[:, : level.shape[1]] = level
    arrays: dict[str, Any] = {
        "track_id": [track.id for track in dataset],
        "label": [track.label for track in dataset],
        "group": [track.group or "" for track in dataset],
        "levels": padded,
        "floor_db": np.full(len(levels), _FLOOR_DB, np.float32),
        "peak_db": np.array(peaks, np.float32),
        "frames": columns,
        "columns": columns,
        "duration_seconds": [track.duration_seconds for track in dataset],
        "sample_rate": sample_rate,
        "n_fft": n_fft,
        "hop_length": hop_length,
        "f_min_hz": f_min_hz,
        "f_max_hz": mel.f_max_hz,
    }
    try:
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise DatasetError(f"The spectrograms could not be written to {path} ({error}).") from error


def _check_arrays(arrays: Mapping[str, Any], path: Path) -> None:
    def check(is_valid: bool, problem: str) -> None:
        if not is_valid:
            raise DatasetError(f"{path} is not a file of spectrograms: {problem}.")

    required = ("track_id", "levels", "floor_db", "peak_db", "frames")
    missing = [name for name in required if name not in arrays]
    check(not missing, f"the array {', '.join(missing)} is missing")
    levels = arrays["levels"]
    check(levels.dtype == np.uint8 and levels.ndim == 3 and levels.size > 0, "levels must be three-dimensional, uint8")
    per_track = (
        *required[:1],
        *required[2:],
        *(name for name in ("columns", "duration_seconds", "label", "group") if name in arrays),
    )
    for name in per_track:
        check(
            arrays[name].shape == levels.shape[:1], f"{name} must have one value for each of the {len(levels)} tracks"
        )
    ids = arrays["track_id"]
    check(ids.dtype.kind == "U" and len(set(ids.tolist())) == len(ids), "track_id must be distinct strings")
    floor, peak, frames = arrays["floor_db"], arrays["peak_db"], arrays["frames"]
    check(bool(np.isfinite(floor).all() and (floor < 0).all()), "floor_db must be finite and below 0")
    check(bool((np.isfinite(peak) & (np.abs(peak) < 300)).all()), "peak_db must be finite")
    for name in ("sample_rate", "n_fft", "hop_length", "f_min_hz", "f_max_hz"):
        value = arrays.get(name, np.array(1.0))
        lowest = 0 if name == "f_min_hz" else 1
        check(value.shape == () and value.dtype.kind in "iuf" and lowest <= value < 1e9, f"{name} is out of range")
    durations = arrays.get("duration_seconds", np.ones(1))
    check(
        durations.dtype.kind == "f" and bool(((durations > 0) & (durations < 1e9)).all()), "duration_seconds is wrong"
    )
    columns = arrays.get("columns", np.array([levels.shape[2]]))
    check(columns.dtype.kind in "iu" and columns.min() > 0 and columns.max() <= levels.shape[2], "columns is wrong")
    check(frames.dtype.kind in "iu" and bool((frames >= columns).all()), "frames must not be less than columns")
