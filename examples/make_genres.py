"""
A synthetic dataset
===================

Music collections are copyrighted, so the other tutorials use synthetic audio. This script writes a directory with one
subdirectory per genre, as ``musgenre.datasets.AudioFolder`` reads it, and a table of artists. In the source directory
of musgenre, run

.. code-block:: console

   $ python examples/make_genres.py made-up-music

and train on the result:

.. code-block:: console

   $ musgenre finetune made-up-music --groups made-up-music/artists.csv --output my-model
   $ musgenre predict made-up-music --model my-model
"""

# %%
# The genres
# ----------
#
# *Drones* are sustained chords, *clicks* a steady beat, *bursts* modulated noise, and *glides* frequency sweeps. Each
# genre has four "artists" with three tracks each. As with real artists, tracks of one artist are similar (in pitch and
# tempo), which makes a random split optimistic.

import csv
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE = 22_050
ARTISTS, SONGS = 4, 3


def drones(time: np.ndarray, rng: np.random.Generator, *, artist: float) -> np.ndarray:
    """Synthesise a chord of three tones with four harmonics each."""
    roots = 80 * 2 ** (2 * artist) * rng.uniform(0.97, 1.03) * np.array([1, 1.25, 1.5])
    return sum(np.sin(2 * np.pi * k * root * time) / k for root in roots for k in range(1, 5))


def clicks(time: np.ndarray, rng: np.random.Generator, *, artist: float) -> np.ndarray:
    """Synthesise a steady beat of short, decaying tones."""
    since_beat = time % (1 / ((2 + 4 * artist) * rng.uniform(0.97, 1.03)))
    tone = np.sin(2 * np.pi * rng.uniform(0.9, 1.1) * (500 + 2500 * artist) * since_beat)
    return tone * np.exp(-since_beat * rng.uniform(80, 160))


def bursts(time: np.ndarray, rng: np.random.Generator, *, artist: float) -> np.ndarray:
    """Synthesise amplitude-modulated noise."""
    return np.sin(np.pi * (0.3 + 1.5 * artist) * rng.uniform(0.9, 1.1) * time) ** 2 * rng.normal(size=time.size)


def glides(time: np.ndarray, rng: np.random.Generator, *, artist: float) -> np.ndarray:
    """Synthesise repeated sweeps over one to two octaves."""
    phase = time * rng.uniform(0.9, 1.1) * (0.8 + artist) % 1 - 0.5
    hertz = (400 + 800 * artist) * 2 ** (rng.choice([-1, 1]) * rng.uniform(1, 2) * phase)
    return np.sin(2 * np.pi * np.cumsum(hertz) / RATE)


GENRES: dict[str, Callable[..., np.ndarray]] = {"bursts": bursts, "clicks": clicks, "drones": drones, "glides": glides}

# %%
# The directory
# -------------
#
# Files such as ``bursts/ada-1.wav``, six seconds each, and ``artists.csv`` with the columns ``track`` and ``group``.
# The result depends on the seed only.


def make_genres(folder: str | Path, *, seconds: float = 6.0, seed: int = 0) -> Path:
    """Write the tracks and ``artists.csv``, and return the directory."""
    music = Path(folder)
    rng = np.random.default_rng(seed)
    time = np.arange(round(RATE * seconds)) / RATE
    rows = []
    for genre, compose in GENRES.items():
        (music / genre).mkdir(parents=True, exist_ok=True)
        for artist in ("ada", "bix", "cleo", "django")[:ARTISTS]:
            character = rng.uniform()
            for number in range(1, SONGS + 1):
                sound = compose(time, rng, artist=character) + 0.01 * rng.normal(size=time.size)
                path = music / genre / f"{artist}-{number}.wav"
                soundfile.write(path, 0.5 * sound / np.abs(sound).max(), RATE)
                rows.append((path.relative_to(music).as_posix(), f"{artist} of {genre}"))
    with (music / "artists.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("track", "group"), *rows])
    return music


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "made-up-music"
    music = make_genres(target)
    print(f"{len(list(music.glob('*/*.wav')))} tracks of {', '.join(GENRES)}")

# %%
# Spectrograms
# ------------
#
# The mel spectrogram of one track per genre:

if __name__ == "__main__":
    import matplotlib.pyplot as plt

    from musgenre import audio, plotting

    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, sharey=True, layout="constrained")
    for ax, genre in zip(axes.flat, GENRES, strict=True):
        waveform = audio.load(music / genre / "ada-1.wav", sample_rate=RATE)
        plotting.plot_spectrogram(waveform, sample_rate=RATE, ax=ax)
        ax.set_title(genre, loc="left")
    plt.show()
