"""What the student learns from: clips of the collection, varied and mixed, with what the teacher hears in them.

Each clip is 2 s long. Two chunks of three are mixed: far from the original in speed and tone, two tracks at a time,
with noise, coded. The third is plain: one track, a little faster or slower, with a little more or less bass. Four
clips in a hundred are no music at all (silence, noise, tones, clicks), so that the student learns to be unsure of
them. A clip is made of tracks of the training set of a fold or it is left out of the fold. Music without labels goes
the same way, but that nothing of it is ever left out.
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
from signals import no_music, noise, rms

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
NO_MUSIC = 0.04
# The teacher's embedding of music has a mean of 0.04 to 0.2, and no unit above 7.
LOUDEST_MEAN = 0.25
LOUDEST_UNIT = 9.0
TEACHER_RATE = 16_000
TEACHER_SAMPLES = 15_600
# Where the teacher listens; 44 frames of the student's picture apart (44 * 256 samples at 22,050 Hz).
TEACHER_STARTS = tuple(round(44 * index * 256 / RATE * TEACHER_RATE) for index in range(3))


@dataclass(frozen=True)
class Clip:
    """Two seconds of sound, and the tracks in it; see :class:`Mixtures`."""

    samples: Floats
    tracks: tuple[int, int]
    share: float
    plain: bool


@dataclass(frozen=True)
class Mixtures:
    """Clips and what is known of them, an entry a clip.

    Attributes:
        tracks: Numbers of the two tracks in it, ``(clips, 2)``; twice the same for one track, -1 for no music.
        shares: Share of the first track in the loudness, in [0.5, 1], ``(clips,)``.
        pictures: The student's feature, ``(clips, bins, frames)``.
        embeddings: The teacher's embeddings at three places, ``(clips, 3, 1024)``.
        plain: Whether the clip is a plain one, ``(clips,)``.
    """

    tracks: npt.NDArray[np.int16]
    shares: npt.NDArray[np.float32]
    pictures: npt.NDArray[np.float16]
    embeddings: npt.NDArray[np.float16]
    plain: npt.NDArray[np.bool_]

    def heard(self) -> npt.NDArray[np.bool_]:
        """Returns of which clips the teacher's answer is worth learning, ``(clips,)``.

        Of what is no music, and of some clips near silence, the teacher's embedding lies so far from all others that a
        few of them would weigh more than everything else.
        """
        embeddings = self.embeddings.mean(axis=1, dtype=np.float32)
        usual = (embeddings.mean(axis=1) < LOUDEST_MEAN) & (embeddings.max(axis=1) < LOUDEST_UNIT)
        answers: npt.NDArray[np.bool_] = (self.tracks[:, 0] >= 0) & usual
        return answers

    @classmethod
    def concatenate(cls, parts: list[Mixtures]) -> Mixtures:
        """Returns one after the other as one."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


class Teacher:
    """YAMNet's embeddings; only training needs it.

    Args:
        weights: ``"audioset"`` to download them, or a ``.h5`` or ``.tflite`` file.
    """

    def __init__(self, weights: str) -> None:
        self.feature = YAMNetLogMel(sample_rate=TEACHER_RATE)
        self.backbone = YAMNet(weights=weights).eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, clips: Floats) -> npt.NDArray[np.float16]:
        """Maps clips ``(n, SAMPLES)`` to embeddings ``(n, 3, 1024)``."""
        heard = soxr.resample(clips.T, RATE, TEACHER_RATE, quality="MQ").T
        heard = np.pad(heard, ((0, 0), (0, max(0, TEACHER_STARTS[-1] + TEACHER_SAMPLES - heard.shape[1]))))
        patches = np.stack([heard[:, start : start + TEACHER_SAMPLES] for start in TEACHER_STARTS], axis=1)
        pictures = self.feature(torch.from_numpy(patches.reshape(-1, TEACHER_SAMPLES)))
        with torch.autocast("cpu", torch.bfloat16):  # three times as fast; the student cannot tell
            embeddings = self.backbone(pictures.contiguous(memory_format=torch.channels_last)).float()
        halves: npt.NDArray[np.float16] = embeddings.half().reshape(len(clips), len(TEACHER_STARTS), -1).numpy()
        return halves


@dataclass(frozen=True)
class Pool:
    """Songs that clips are made of.

    Attributes:
        songs: Each a row of samples at 22,050 Hz, as floats in [-1, 1] or as 16-bit integers.
        weights: How often each is drawn; they sum to one.
        seed: Of the draws.
    """

    songs: Sequence[Floats] | npt.NDArray[np.int16]
    weights: npt.NDArray[np.float64]
    seed: int

    def song(self, number: int) -> Floats:
        """Returns a song as floats."""
        song = self.songs[number]
        floats: Floats = song.astype(np.float32) / np.float32(32_768 if song.dtype == np.int16 else 1)
        return floats


def labelled(data: TrackDataset) -> Pool:
    """Returns the tracks of a dataset as songs."""
    return Pool([load(track.path, sample_rate=RATE) for track in data], track_weights(data), seed=0)


def mixtures(
    pool: Callable[[], Pool], *, name: str, feature: FeatureExtractor, teacher: str, folder: Path, chunks: int
) -> Mixtures:
    """Makes the clips, or reads those that an earlier run has made.

    Args:
        pool: Gives the songs; called only where clips are missing.
        name: Of the files in which the clips are kept.
        feature: The student's.
        teacher: Where YAMNet's weights are.
        folder: Where chunks of clips are kept.
        chunks: How many chunks of ``CHUNK`` clips.
    """
    paths = [folder / f"{name}-{number}.npz" for number in range(chunks)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        songs, listener = pool(), Teacher(teacher)
        for number in missing:
            clips = _clips(songs, plain=number % 3 == 2, draws=np.random.default_rng([songs.seed, number]))
            part = _heard(list(clips), feature=feature, teacher=listener)
            with atomic_write(paths[number]) as path, path.open("wb") as file:
                np.savez(file, **vars(part))
            print(f"{name}: chunk {number + 1} of {chunks}", flush=True)
    parts = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            parts.append(Mixtures(**arrays))
    return Mixtures.concatenate(parts)


def track_weights(data: TrackDataset) -> npt.NDArray[np.float64]:
    """Returns how often each track is drawn: genres equally, an artist by the root of the number of its tracks."""
    labels = np.array(data.label_indices())
    groups = np.array([track.group or track.id for track in data])
    weights = np.zeros(len(data))
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        _, inverse, counts = np.unique(groups[own], return_inverse=True, return_counts=True)
        weights[own] = (counts**-0.5 / np.sqrt(counts).sum())[inverse]
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


def _heard(made: list[Clip], *, feature: FeatureExtractor, teacher: Teacher) -> Mixtures:
    pictures, embeddings = [], []
    for batch in np.array_split(np.stack([clip.samples for clip in made]), CHUNK // 50):
        with torch.inference_mode():
            pictures.append(feature(torch.from_numpy(batch))[:, 0].numpy().astype(np.float16))
        embeddings.append(teacher(batch))
    return Mixtures(
        np.array([clip.tracks for clip in made], dtype=np.int16),
        np.array([clip.share for clip in made], dtype=np.float32),
        np.concatenate(pictures),
        np.concatenate(embeddings),
        np.array([clip.plain for clip in made]),
    )


def _clips(songs: Pool, *, plain: bool, draws: np.random.Generator) -> Iterator[Clip]:
    for _ in range(CHUNK):
        if draws.random() < NO_MUSIC:
            yield Clip(no_music(SAMPLES, rate=RATE, draws=draws), (-1, -1), share=1.0, plain=plain)
            continue
        first, second = (int(number) for number in draws.choice(len(songs.songs), p=songs.weights, size=2))
        mix = not plain and draws.random() < 0.35
        octaves, decibels = (0.15, 3.0) if plain else (0.3, 5.0)
        samples: npt.NDArray[np.floating] = _varied(songs.song(first), octaves=octaves, decibels=decibels, draws=draws)
        share = 1.0
        if mix:
            gain = 10 ** (-draws.uniform(0, 12) / 20)
            other = _varied(songs.song(second), octaves=octaves, decibels=decibels, draws=draws)
            samples, share = samples + gain * other, 1 / (1 + gain)
        if not plain and draws.random() < 0.15:
            hiss = noise(SAMPLES, rate=RATE, slope=draws.uniform(0, 2), draws=draws)
            samples = samples / rms(samples) + hiss * 10 ** (-draws.uniform(5, 35) / 20)
        samples = samples / rms(samples) * 10 ** (draws.uniform(-30, -14) / 20)
        if not plain and draws.random() < 0.1:
            samples = _coded(samples, draws)
        yield Clip(samples.astype(np.float32), (first, second if mix else first), share=share, plain=plain)


def _varied(song: Floats, *, octaves: float, decibels: float, draws: np.random.Generator) -> Floats:
    """Returns a clip of a song: at a random place, faster or slower, with another tone, at a loudness of 1."""
    speed = 2 ** draws.uniform(-octaves, octaves) if draws.random() < 0.8 else 1.0
    length = int(SAMPLES * speed) + 16
    long = np.tile(song, length // len(song) + 2) if len(song) < length else song
    start = draws.integers(0, len(long) - length + 1)
    clip = soxr.resample(long[start : start + length], RATE * speed, RATE, quality="MQ")
    clip = np.pad(clip, (0, max(0, SAMPLES - len(clip))))[:SAMPLES]
    if draws.random() < 0.8:
        # A curve of seven points from 40 Hz to half the rate, straight between them.
        hertz = np.fft.rfftfreq(SAMPLES, 1 / RATE)
        knots = np.geomspace(40, RATE / 2, 7)
        gains = np.interp(np.log(hertz + 1), np.log(knots), draws.normal(0, decibels, len(knots)))
        clip = np.fft.irfft(np.fft.rfft(clip) * 10 ** (gains / 20), SAMPLES)
    varied: Floats = (clip / rms(clip)).astype(np.float32)
    return varied


def _coded(clip: Floats, draws: np.random.Generator) -> Floats:
    """Returns what is left of a clip after MP3 or Ogg Vorbis at a low quality."""
    kind, coding = (("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"))[draws.integers(2)]
    file = io.BytesIO()
    quality = float(draws.uniform(0.5, 1.0))
    soundfile.write(file, np.clip(clip, -1, 1), RATE, format=kind, subtype=coding, compression_level=quality)
    file.seek(0)
    back, _ = soundfile.read(file, dtype="float32")
    return np.pad(back, (0, max(0, SAMPLES - len(back))))[:SAMPLES]
