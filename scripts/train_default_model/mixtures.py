"""Training data of the student: augmented clips with the embeddings of the teacher.

Each clip has 2 s. Two of three chunks are strongly augmented: speed, equalisation, mixtures of two tracks, noise and
lossy compression. The third is weakly augmented: small changes of speed and equalisation of a single track. Four
percent of the clips are not music (silence, noise, tones, clicks) and have uniform targets. A fold uses the clips that
contain training tracks only. Unlabelled music is processed in the same way and used in all folds.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch
from signals import noise, not_music, rms

from musgenre.audio import load
from musgenre.backbones.yamnet import YAMNet
from musgenre.core.files import atomic_write
from musgenre.datasets.base import TrackDataset
from musgenre.features.base import FeatureExtractor
from musgenre.features.yamnet import YAMNetLogMel

Floats = npt.NDArray[np.float32]

RATE = 22_050
SAMPLES = 2 * RATE
CHUNK = 2_500
NOT_MUSIC = 0.04
# The teacher's embedding of music has a mean of 0.04 to 0.2, and no unit above 7.
LOUDEST_MEAN = 0.25
LOUDEST_UNIT = 9.0
TEACHER_RATE = 16_000
TEACHER_SAMPLES = 15_600
# Start of each patch of the teacher, 44 frames of the student apart (44 * 256 samples at 22,050 Hz).
TEACHER_STARTS = tuple(round(44 * index * 256 / RATE * TEACHER_RATE) for index in range(3))


@dataclass(frozen=True)
class Clip:
    """Two seconds of audio and the tracks in it; see :class:`Mixtures`."""

    samples: Floats
    tracks: tuple[int, int]
    share: float
    plain: bool


@dataclass(frozen=True)
class Mixtures:
    """Clips as arrays.

    Attributes:
        tracks: Indices of the two tracks of a clip, ``(clips, 2)``; equal for a single track, -1 for clips that are not
            music.
        shares: Relative level of the first track, in [0.5, 1], ``(clips,)``.
        features: The student's feature, ``(clips, bins, frames)``.
        embeddings: The teacher's embeddings of three patches, ``(clips, 3, 1024)``.
        plain: Whether the clip is weakly augmented, ``(clips,)``.
    """

    tracks: npt.NDArray[np.int16]
    shares: npt.NDArray[np.float32]
    features: npt.NDArray[np.float16]
    embeddings: npt.NDArray[np.float16]
    plain: npt.NDArray[np.bool_]

    def has_usable_targets(self) -> npt.NDArray[np.bool_]:
        """Return which clips have usable embeddings as targets, ``(clips,)``.

        The embeddings of signals that are not music and of some clips near silence are outliers that would dominate the
        loss.
        """
        embeddings = self.embeddings.mean(axis=1, dtype=np.float32)
        usual = (embeddings.mean(axis=1) < LOUDEST_MEAN) & (embeddings.max(axis=1) < LOUDEST_UNIT)
        usable: npt.NDArray[np.bool_] = (self.tracks[:, 0] >= 0) & usual
        return usable

    @classmethod
    def concatenate(cls, parts: list[Mixtures]) -> Mixtures:
        """Concatenate several parts."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


class Teacher:
    """YAMNet, which computes the target embeddings.

    Args:
        weights: ``"audioset"`` to download them, or a ``.h5`` or ``.tflite`` file.
    """

    def __init__(self, weights: str) -> None:
        self.feature = YAMNetLogMel(sample_rate=TEACHER_RATE)
        self.backbone = YAMNet(weights=weights).eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, clips: Floats) -> npt.NDArray[np.float16]:
        """Map clips ``(n, SAMPLES)`` to embeddings ``(n, 3, 1024)``."""
        waveforms = soxr.resample(clips.T, RATE, TEACHER_RATE, quality="MQ").T
        waveforms = np.pad(waveforms, ((0, 0), (0, max(0, TEACHER_STARTS[-1] + TEACHER_SAMPLES - waveforms.shape[1]))))
        patches = np.stack([waveforms[:, start : start + TEACHER_SAMPLES] for start in TEACHER_STARTS], axis=1)
        features = self.feature(torch.from_numpy(patches.reshape(-1, TEACHER_SAMPLES)))
        with torch.autocast("cpu", torch.bfloat16):  # three times as fast, and accurate enough for targets
            embeddings = self.backbone(features.contiguous(memory_format=torch.channels_last)).float()
        halves: npt.NDArray[np.float16] = embeddings.half().reshape(len(clips), len(TEACHER_STARTS), -1).numpy()
        return halves


@dataclass(frozen=True)
class Pool:
    """Recordings from which clips are drawn.

    Attributes:
        songs: Samples at 22,050 Hz, as floats in [-1, 1] or as 16-bit integers.
        weights: Sampling probabilities.
        seed: Random seed.
    """

    songs: Sequence[Floats] | npt.NDArray[np.int16]
    weights: npt.NDArray[np.float64]
    seed: int

    def song(self, number: int) -> Floats:
        """Return a recording as floats."""
        song = self.songs[number]
        floats: Floats = song.astype(np.float32) / np.float32(32_768 if song.dtype == np.int16 else 1)
        return floats


def labelled(data: TrackDataset) -> Pool:
    """Return the tracks of a dataset as a pool."""
    return Pool([load(track.file, sample_rate=RATE) for track in data], track_weights(data), seed=0)


def mixtures(
    pool: Callable[[], Pool], *, name: str, feature: FeatureExtractor, teacher: str, folder: Path, chunks: int
) -> Mixtures:
    """Generate the clips, or load those of an earlier run.

    Args:
        pool: Returns the recordings; called only if clips are missing.
        name: Prefix of the files with the clips.
        feature: The feature of the student.
        teacher: Weights of YAMNet.
        folder: Directory of the files with the clips.
        chunks: Number of chunks of ``CHUNK`` clips.
    """
    paths = [folder / f"{name}-{number}.npz" for number in range(chunks)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        songs, yamnet = pool(), Teacher(teacher)
        for number in missing:
            clips = _clips(songs, plain=number % 3 == 2, draws=np.random.default_rng([songs.seed, number]))
            part = _with_targets(list(clips), feature=feature, teacher=yamnet)
            with atomic_write(paths[number]) as path, path.open("wb") as file:
                np.savez(file, **vars(part))
            print(f"{name}: chunk {number + 1} of {chunks}", flush=True)
    parts = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            parts.append(Mixtures(**arrays))
    return Mixtures.concatenate(parts)


def track_weights(data: TrackDataset) -> npt.NDArray[np.float64]:
    """Return sampling probabilities: balanced genres, artists by the square root of their number of tracks."""
    labels = np.array(data.label_indices())
    groups = np.array([track.group or track.id for track in data])
    weights = np.zeros(len(data))
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        _, inverse, counts = np.unique(groups[own], return_inverse=True, return_counts=True)
        weights[own] = (counts**-0.5 / np.sqrt(counts).sum())[inverse]
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


def _with_targets(clips: list[Clip], *, feature: FeatureExtractor, teacher: Teacher) -> Mixtures:
    features, embeddings = [], []
    for batch in np.array_split(np.stack([clip.samples for clip in clips]), CHUNK // 50):
        with torch.inference_mode():
            features.append(feature(torch.from_numpy(batch))[:, 0].numpy().astype(np.float16))
        embeddings.append(teacher(batch))
    return Mixtures(
        np.array([clip.tracks for clip in clips], dtype=np.int16),
        np.array([clip.share for clip in clips], dtype=np.float32),
        np.concatenate(features),
        np.concatenate(embeddings),
        np.array([clip.plain for clip in clips]),
    )


def _clips(songs: Pool, *, plain: bool, draws: np.random.Generator) -> Iterator[Clip]:
    for _ in range(CHUNK):
        if draws.random() < NOT_MUSIC:
            yield Clip(not_music(SAMPLES, rate=RATE, draws=draws), (-1, -1), share=1.0, plain=plain)
            continue
        first, second = (int(number) for number in draws.choice(len(songs.songs), p=songs.weights, size=2))
        mix = not plain and draws.random() < 0.35
        octaves, decibels = (0.15, 3.0) if plain else (0.3, 5.0)
        samples: npt.NDArray[np.floating] = _augmented(
            songs.song(first), octaves=octaves, decibels=decibels, draws=draws
        )
        share = 1.0
        if mix:
            gain = 10 ** (-draws.uniform(0, 12) / 20)
            other = _augmented(songs.song(second), octaves=octaves, decibels=decibels, draws=draws)
            samples, share = samples + gain * other, 1 / (1 + gain)
        if not plain and draws.random() < 0.15:
            hiss = noise(SAMPLES, rate=RATE, slope=draws.uniform(0, 2), draws=draws)
            samples = samples / rms(samples) + hiss * 10 ** (-draws.uniform(5, 35) / 20)
        samples = samples / rms(samples) * 10 ** (draws.uniform(-30, -14) / 20)
        if not plain and draws.random() < 0.1:
            samples = _compressed(samples, draws)
        yield Clip(samples.astype(np.float32), (first, second if mix else first), share=share, plain=plain)


def _augmented(song: Floats, *, octaves: float, decibels: float, draws: np.random.Generator) -> Floats:
    """Return a random excerpt of a recording with changed speed and equalisation, at unit RMS."""
    speed = 2 ** draws.uniform(-octaves, octaves) if draws.random() < 0.8 else 1.0
    length = int(SAMPLES * speed) + 16
    long = np.tile(song, length // len(song) + 2) if len(song) < length else song
    start = draws.integers(0, len(long) - length + 1)
    clip = soxr.resample(long[start : start + length], RATE * speed, RATE, quality="MQ")
    clip = np.pad(clip, (0, max(0, SAMPLES - len(clip))))[:SAMPLES]
    if draws.random() < 0.8:
        # Piecewise linear gains over the logarithm of the frequency, with seven knots from 40 Hz to half the rate.
        hertz = np.fft.rfftfreq(SAMPLES, 1 / RATE)
        knots = np.geomspace(40, RATE / 2, 7)
        gains = np.interp(np.log(hertz + 1), np.log(knots), draws.normal(0, decibels, len(knots)))
        clip = np.fft.irfft(np.fft.rfft(clip) * 10 ** (gains / 20), SAMPLES)
    augmented: Floats = (clip / rms(clip)).astype(np.float32)
    return augmented


def _compressed(clip: Floats, draws: np.random.Generator) -> Floats:
    """Return a clip after MP3 or Ogg Vorbis compression at low quality."""
    kind, coding = (("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"))[draws.integers(2)]
    file = io.BytesIO()
    quality = float(draws.uniform(0.5, 1.0))
    soundfile.write(file, np.clip(clip, -1, 1), RATE, format=kind, subtype=coding, compression_level=quality)
    file.seek(0)
    back, _ = soundfile.read(file, dtype="float32")
    return np.pad(back, (0, max(0, SAMPLES - len(back))))[:SAMPLES]
