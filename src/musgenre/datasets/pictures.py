"""Dataset of pictures of mel spectrograms, such as ``images_original`` in most copies of GTZAN.

A picture is converted to a :class:`~musgenre.datasets.spectrograms.StoredSpectrogram`: the colormap is inverted, and
rows become bands. The network's feature then computes its input from it as from audio, so that a network that was
trained on pictures predicts recordings.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from musgenre import functional
from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets.base import MissingTrack, Track, TrackDataset, warn_missing
from musgenre.datasets.folder import genre_folders
from musgenre.datasets.gtzan import find_row
from musgenre.datasets.spectrograms import MelSettings, StoredSpectrogram

Levels = npt.NDArray[np.uint8]
Crop = Literal["kaggle"] | tuple[int, int, int, int] | None

SUFFIXES = frozenset([".jpeg", ".jpg", ".png"])
"""Suffixes of pictures, in lower case. Other files are ignored."""

KAGGLE = (0.125, 0.12, 0.9, 0.89)
"""Left, top, right and bottom edge of the axes in a figure with matplotlib's default margins, as fractions."""

_RATE, _HOP, _N_FFT = 22_050, 512, 2048
_GTZAN_NAME = re.compile(r"([a-z]+)\.?(\d{5})")
_FARTHEST = 24  # median distance from the colours of the map, of 0 to 255; JPEG changes colours by less


class PictureFolder(TrackDataset):
    """Dataset of the pictures in a folder with one sub-folder per genre.

    The pictures are PNG or JPEG files of mel spectrograms, drawn with one colormap, time to the right and the highest
    band on top, as ``librosa.display.specshow`` draws them. The name of each sub-folder is a label. A file such as
    ``blues/blues00000.png`` is GTZAN's track ``blues.00000``, with its artist and known fault;
    ``GTZAN(PictureFolder(root), split="train")`` selects the tracks of a split.

    Args:
        root: The folder.
        crop: Left, top, right and bottom edge of the spectrogram in pixels, to cut off margins and axes; or
            ``"kaggle"`` for the frame of the pictures on Kaggle, which is that of matplotlib's default figure.
        colormap: Name of the colormap of matplotlib with which the pictures were drawn.
        duration_seconds: Duration that each picture shows.
        n_mels: Number of bands that it shows.
        floor_db: Decibels of the lowest colour relative to the highest one, below 0.
        on_error: ``"raise"``, or ``"return"`` to list pictures that cannot be used in :attr:`missing`, with one
            warning.

    Raises:
        DatasetError: ``root`` is not a folder, or has fewer than two genres or a genre without a usable picture; or a
            picture cannot be read, differs in size from the first one, or has other colours than those of the colormap.
        ParameterError: An argument is out of range, or there is no such colormap.

    Example::

        pictures = PictureFolder("images_original", crop="kaggle")
        train = GTZAN(pictures, split="train")
        finetune(train, backbone="vgg16", audio=AudioSpec(window_seconds=30.0, hop_seconds=30.0))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        crop: Crop = None,
        colormap: str = "magma",
        duration_seconds: float = 30.0,
        n_mels: int = 128,
        floor_db: float = -80.0,
        on_error: Literal["raise", "return"] = "raise",
    ) -> None:
        functional.check_positive(n_mels=n_mels)
        if not 0 < duration_seconds < 1e6:
            raise ParameterError(f"duration_seconds must be positive, not {duration_seconds!r}.")
        if not -1_000 < floor_db < 0:
            raise ParameterError(f"floor_db must be below 0, not {floor_db!r}.")
        if on_error not in ("raise", "return"):
            raise ParameterError(f"on_error must be 'raise' or 'return', not {on_error!r}.")
        folder = Path(root).expanduser()
        table = functional.colors(colormap).astype(np.float64)
        settings = MelSettings(_RATE, n_fft=_N_FFT, n_mels=n_mels, f_min_hz=0.0, f_max_hz=_RATE / 2)
        frames = 1 + int(duration_seconds * _RATE) // _HOP
        tracks: list[Track] = []
        missing: list[MissingTrack] = []
        size: tuple[int, int] | None = None
        for genre in genre_folders(folder):
            paths = sorted(path for path in genre.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
            if not paths:
                raise DatasetError(f"{genre} holds no picture ({', '.join(sorted(SUFFIXES))}): add one, or remove it.")
            for path in paths:
                try:
                    pixels = _read_pixels(path)
                    size = size or pixels.shape[:2]
                    if pixels.shape[:2] != size:
                        raise DatasetError(
                            f"{path}: {_pixels(pixels.shape)}, but the first picture has {_pixels(size)}."
                        )
                    levels = _levels(_cropped(pixels, crop), table, path=path, colormap=colormap)
                except DatasetError as error:
                    if on_error == "raise":
                        raise
                    missing.append(MissingTrack(f"{genre.name}/{path.name}", str(error)))
                    continue
                spectrogram = StoredSpectrogram(
                    _bands(levels, n_mels),
                    floor_db,
                    0.0,
                    frames=frames,
                    hop_length=_HOP,
                    duration_seconds=duration_seconds,
                    settings=settings,
                )
                tracks.append(_track(path, spectrogram))
            if not any(track.label == genre.name for track in tracks):
                raise DatasetError(f"{genre}: no picture can be used ({missing[-1].reason}).")
        labels = sorted({track.label for track in tracks})
        super().__init__(tracks, labels=labels, name=folder.resolve().name, missing=missing)
        warn_missing(str(folder), missing, expected=len(tracks) + len(missing))


def _track(path: Path, spectrogram: StoredSpectrogram) -> Track:
    genre = path.parent.name
    match = _GTZAN_NAME.fullmatch(path.stem)
    row = find_row(f"{match[1]}.{match[2]}") if match and match[1] == genre else None
    seconds = spectrogram.duration_seconds
    if row is None:
        return Track(f"{genre}/{path.name}", None, genre, None, seconds, spectrogram=spectrogram)
    return Track(row.id, None, genre, row.group, seconds, row.fault, spectrogram=spectrogram)


def _read_pixels(path: Path) -> Levels:
    """Return the pixels of a picture, ``(height, width, 3)``."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise DatasetError(f"{path}: 16 or more bits for each pixel; expected a picture in 8-bit colours.")
            if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                raise DatasetError(f"{path}: has transparent pixels; expected an opaque picture.")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path} cannot be read as a picture ({error}).") from error


def _cropped(pixels: Levels, crop: Crop) -> Levels:
    height, width = pixels.shape[:2]
    if crop is None:
        return pixels
    if crop == "kaggle":
        left, top = round(KAGGLE[0] * width), round(KAGGLE[1] * height)
        right, bottom = round(KAGGLE[2] * width), round(KAGGLE[3] * height)
    else:
        left, top, right, bottom = crop
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ParameterError(f"crop={crop!r} is not inside of a picture of {_pixels(pixels.shape)}.")
    return pixels[top:bottom, left:right]


def _levels(pixels: Levels, table: npt.NDArray[np.float64], *, path: Path, colormap: str) -> Levels:
    """Return the level of each pixel from 0 to 255: the position of the nearest colour of the colormap."""
    flat = pixels.reshape(-1, 3)
    packed = flat.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    _, first, inverse = np.unique(packed, return_index=True, return_inverse=True)
    # |a - b|² = |a|² - 2 ab + |b|²: one product of matrices for thousands of different colours
    unique = flat[first].astype(np.float64)
    squares = (unique**2).sum(axis=1)[:, None] - 2 * unique @ table.T + (table**2).sum(axis=1)
    distance = np.sqrt(squares.min(axis=1).clip(0))[inverse]
    if np.median(distance) > _FARTHEST:
        raise DatasetError(
            f"{path}: its colours are not those of the colormap {colormap!r}: pass another colormap, or crop to cut "
            "off margins."
        )
    steps = np.round(np.arange(len(table)) * 255 / (len(table) - 1)).astype(np.uint8)
    levels: Levels = steps[squares.argmin(axis=1)][inverse]
    return levels.reshape(pixels.shape[:2])


def _bands(levels: Levels, n_mels: int) -> Levels:
    """Return one row for each band, the lowest first: that at the centre of the band in the picture."""
    height = len(levels)
    rows = height - 1 - np.floor((np.arange(n_mels) + 0.5) * height / n_mels).astype(int)
    bands: Levels = levels[rows]
    return bands


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} × {shape[0]} pixels"
