"""Compose and render the demo piece of ``musgenre demo``.

The piece is synthetic and was written for the demo. One theme of ten notes over one progression (A minor, D minor, E,
A minor) is played twice: as a waltz for piano and strings, and as metal with distorted guitars, so that the timeline
of the default model shows a change of genre. Every sound is synthesised in this script from sums of partials, filtered
noise and ``tanh``; no samples are used. The same seed renders the same piece.

    python scripts/render_demo.py --output src/musgenre/assets/demo.ogg
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

Sound = npt.NDArray[np.float64]

RATE = 22_050
FINE_RATE = 4 * RATE  # oversampling for the distortion
SECONDS = 25.5
TAIL = 1.5  # seconds by which a section overlaps the next one
SEED = 20_240
PEAK = 10 ** (-1.2 / 20)  # below -1 dBFS, because Vorbis overshoots

# Pitches are MIDI numbers: 69 is A4 (440 Hz), 12 semitones make an octave.
THEME = (69, 72, 74, 76, 77, 76, 74, 71, 72, 69)
CHORDS = ((57, 60, 64), (57, 62, 65), (56, 62, 64), (57, 60, 64))
ROOTS = (33, 38, 40, 33)


def partials(pitch: float, seconds: float, *, weights: Sound, decay: float, rate: int = RATE) -> Sound:
    """Synthesise a plucked or struck string as a sum of decaying partials.

    The fundamental decays by ``decay`` nepers per second, partial k by (1 + k / 4) times as much.
    """
    t = np.arange(round(seconds * rate)) / rate
    hertz = 440.0 * 2 ** ((pitch - 69) / 12)
    sound = np.zeros_like(t)
    for k, weight in enumerate(weights, start=1):
        # Inharmonicity: the partials of a stiff string lie slightly above the harmonics.
        partial = k * hertz * np.sqrt(1 + 2e-4 * k * k)
        if partial < 0.46 * RATE:
            sound += weight * np.sin(2 * np.pi * partial * t) * np.exp(-decay * (1 + k / 4) * t)
    return sound * envelope(t.size, attack=0.003, release=0.02, rate=rate)


def bowed(pitch: float, seconds: float, *, attack: float, cutoff: float) -> Sound:
    """Synthesise strings: three detuned sawtooth voices with vibrato, low-passed at ``cutoff`` hertz."""
    t = np.arange(round(seconds * RATE)) / RATE
    vibrato = 0.0004 * np.minimum(t / 0.4, 1) * np.sin(2 * np.pi * 5.4 * t)
    sound = np.zeros_like(t)
    for voice, detune in enumerate((-0.06, 0.0, 0.07)):
        hertz = 440.0 * 2 ** ((pitch + detune - 69) / 12)
        phase = 2 * np.pi * hertz * (t + vibrato) + 2.1 * voice
        for k in range(1, int(min(0.46 * RATE, 5 * cutoff) / hertz) + 1):
            sound += np.sin(k * phase) / (k * (1 + (k * hertz / cutoff) ** 2))
    return 0.5 * sound * envelope(t.size, attack=attack, release=0.12)


def noise(seconds: float, *, band: tuple[float, float], decay: float, rng: np.random.Generator) -> Sound:
    """Synthesise band-limited noise (band in hertz) that decays by ``decay`` nepers per second."""
    sound = rng.standard_normal(round(seconds * RATE))
    fade = np.exp(-decay * np.arange(sound.size) / RATE)
    return band_pass(sound, band=band) * fade * envelope(sound.size, attack=0.001, release=0.02)


def kick() -> Sound:
    """Synthesise a bass drum: a sine that falls to 55 Hz, with the click of the beater."""
    seconds = 0.15
    t = np.arange(round(seconds * RATE)) / RATE
    cycles = 55 * t + (150 / 35) * (1 - np.exp(-35 * t))
    beater = 0.9 * np.sin(2 * np.pi * 2_800 * t) * np.exp(-t / 0.004)
    shell = np.sin(2 * np.pi * cycles) * np.exp(-t * 3 / seconds)
    return (shell + beater) * envelope(t.size, attack=0.001, release=0.03)


def snare(rng: np.random.Generator) -> Sound:
    """Synthesise a snare drum: band-limited noise over a short tone of 190 Hz."""
    wires = noise(0.25, band=(1_200, 9_000), decay=18, rng=rng)
    t = np.arange(wires.size) / RATE
    return 0.9 * wires + 0.8 * np.sin(2 * np.pi * 190 * t) * np.exp(-25 * t)


def envelope(size: int, *, attack: float = 0.0, release: float = 0.0, rate: int = RATE) -> Sound:
    """Return a linear envelope with attack and release times in seconds."""
    seconds = np.arange(size) / rate
    rise = np.minimum(seconds / attack, 1) if attack else np.ones(size)
    fall = np.minimum(seconds[::-1] / release, 1) if release else np.ones(size)
    return rise * fall


def band_pass(sound: Sound, *, band: tuple[float, float], rate: int = RATE) -> Sound:
    """Apply a zero-phase band-pass filter with slopes of 12 dB per octave; the band is in hertz."""
    hertz = np.fft.rfftfreq(2 * sound.size, 1 / rate)
    gain = 1 / (1 + (band[0] / np.maximum(hertz, 1e-9)) ** 2) / (1 + (hertz / band[1]) ** 2)
    return np.fft.irfft(np.fft.rfft(sound, 2 * sound.size) * gain)[: sound.size]


def overdrive(sound: Sound, *, gain: float) -> Sound:
    """Simulate a guitar amplifier: ``tanh``, a cabinet with scooped mids, and downsampling to ``RATE``.

    The distortion runs at ``FINE_RATE``, so that harmonics above the Nyquist frequency of ``RATE`` are filtered out
    before they alias.
    """
    tight = band_pass(sound, band=(400, 9_000), rate=FINE_RATE)
    body = band_pass(np.tanh(gain * tight / np.std(tight)), band=(80, 5_500), rate=FINE_RATE)
    mids, presence = (band_pass(body, band=band, rate=FINE_RATE) for band in ((250, 900), (2_200, 5_500)))
    loud = body - 0.7 * mids + 3 * presence
    size = loud.size * RATE // FINE_RATE
    return np.fft.irfft(np.fft.rfft(loud * RATE / FINE_RATE)[: size // 2 + 1], size)


def reverb(sound: Sound, *, wet: float, seconds: float, rng: np.random.Generator) -> Sound:
    """Add reverberation: convolution with exponentially decaying, band-limited noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    response = band_pass(rng.standard_normal(t.size), band=(250, 4_000)) * np.exp(-6.9 * t / seconds)
    size = sound.size + t.size
    tail = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: sound.size]
    tail *= wet * np.std(sound) / np.std(tail)
    return sound + tail


def mix(track: Sound, sound: Sound, *, at: float, gain: float = 1.0, rate: int = RATE) -> None:
    """Mix a sound into a track at ``at`` seconds, in place; samples beyond the end of the track are dropped."""
    start = round(at * rate)
    part = sound[: max(track.size - start, 0)]
    track[start : start + part.size] += gain * part


def notes(pitches: Iterable[int], beats: Iterable[float]) -> Iterable[tuple[int, float, float]]:
    """Yield pitch, onset and length (in beats) of consecutive notes."""
    at = 0.0
    for pitch, length in zip(pitches, beats, strict=True):
        yield pitch, at, length
        at += length


def string(count: int, *, slope: float, point: float) -> Sound:
    """Return the harmonic weights of a string that is excited at ``1 / point`` of its length."""
    k = np.arange(1.0, count + 1)
    weights: Sound = np.abs(np.sin(np.pi * k / point)) / k**slope
    return weights


PIANO = string(18, slope=1.3, point=7.3)
GUITAR = string(24, slope=1.0, point=5.2)
BRIDGE = string(40, slope=0.6, point=7.3)
BASS = np.array([1.0, 0.7, 0.5, 0.35, 0.25, 0.16, 0.1, 0.06])


def waltz(rng: np.random.Generator) -> Sound:
    """Render four bars in 3/4 at 120 beats per minute: the theme on the piano, broken chords, strings."""
    beat, track = 0.5, np.zeros(round((6 + TAIL) * RATE))
    for bar, (root, chord) in enumerate(zip(ROOTS, CHORDS, strict=True)):
        start, swell = 3 * bar * beat, 0.7 + 0.15 * min(bar, 2)
        mix(track, partials(root, 2.2, weights=PIANO, decay=0.9), at=start, gain=0.5 * swell)
        for step, pitch in enumerate((chord[0], chord[1], chord[2], chord[1], chord[2])):
            mix(track, partials(pitch, 1.6, weights=PIANO, decay=1.6), at=start + (step + 1) * beat / 2, gain=0.22)
        for pitch in (root, *chord):
            strings = bowed(pitch, 3 * beat + 0.3, attack=0.5, cutoff=900)
            mix(track, strings, at=max(start - 0.1, 0), gain=0.09 * swell)
    for pitch, at, length in notes(THEME, (2, 1, 1.5, 0.5, 1, 1.5, 0.5, 1, 1, 2)):
        mix(track, partials(pitch, length * beat + 1.2, weights=PIANO, decay=1.1), at=at * beat, gain=0.6)
        mix(track, bowed(pitch + 12, length * beat + 0.15, attack=0.12, cutoff=1_500), at=at * beat, gain=0.1)
    return reverb(track, wet=0.35, seconds=2.2, rng=rng)


def metal(rng: np.random.Generator) -> Sound:
    """Render twelve bars in 4/4 at 160 beats per minute: power chords, bass, double bass drum and a lead guitar."""
    beat, bars = 0.375, 12
    drums = np.zeros(round((4 * bars * beat + TAIL) * RATE))
    bass, chords, lead = np.zeros_like(drums), np.zeros(4 * drums.size), np.zeros(4 * drums.size)
    for bar in range(bars):
        start, root = 4 * bar * beat, (45, 38, 40, 45)[bar % 4]
        for sixteenths, onsets in ((3.8, (0, 12)), (1.6, (4, 6, 7, 8, 10, 11, 15))):
            chord = power_chord(root, sixteenths * beat / 4)
            for onset in onsets:
                mix(chords, chord, at=start + onset * beat / 4, rate=FINE_RATE)
        for sixteenth in range(16):
            at, accent = start + sixteenth * beat / 4, 1.0 if sixteenth % 4 else 1.4
            mix(drums, kick(), at=at, gain=0.6 * accent)
            mix(bass, partials(root - 12, beat / 4, weights=BASS, decay=4), at=at, gain=0.7)
        for sixteenth in (4, 12):
            mix(drums, snare(rng), at=start + sixteenth * beat / 4, gain=1.1)
        for eighth in range(8):
            mix(drums, noise(0.3, band=(5_000, 10_500), decay=9, rng=rng), at=start + eighth * beat / 2, gain=0.2)
        if bar % 2 == 0:
            mix(drums, noise(1.5, band=(3_000, 10_500), decay=3.5, rng=rng), at=start, gain=0.5)
    for chorus in range(bars // 4):
        for pitch, at, length in notes(THEME, (2.5, 1.5, 1.5, 0.5, 2, 2, 1, 1, 1, 3)):
            tone = partials(pitch + 12, length * beat, weights=GUITAR, decay=0.6, rate=FINE_RATE)
            mix(lead, tone, at=(16 * chorus + at) * beat, rate=FINE_RATE)
    end = 4 * bars * beat
    mix(chords, power_chord(45, TAIL), at=end, rate=FINE_RATE)
    mix(bass, partials(33, TAIL, weights=BASS, decay=1), at=end, gain=0.7)
    mix(drums, kick(), at=end)
    guitars = 0.6 * overdrive(chords, gain=10) + 0.2 * overdrive(lead, gain=2)
    return reverb(drums, wet=0.4, seconds=0.5, rng=rng) + reverb(guitars, wet=0.12, seconds=0.8, rng=rng) + bass


def power_chord(root: int, seconds: float) -> Sound:
    """Synthesise root, fifth and octave, doubled with slight detuning, at ``FINE_RATE``, before the amplifier."""
    chord = np.zeros(round(seconds * FINE_RATE))
    for interval in (0, 7, 12, 0.08, 7.06):
        chord += partials(root + interval, seconds, weights=BRIDGE, decay=0.8, rate=FINE_RATE)
    return chord


SECTIONS = ((waltz, 0.0, -22.0), (metal, 6.0, -15.5))
"""Each section with its start in seconds and its level in decibels (root mean square, relative to full scale)."""


def compose(seed: int = SEED) -> Sound:
    """Render the piece as ``(samples,)`` at ``RATE``, normalised to ``PEAK``."""
    rng = np.random.default_rng(seed)
    piece = np.zeros(round(SECONDS * RATE))
    for section, start, level in SECTIONS:
        track = section(rng)
        track *= 10 ** (level / 20) / np.std(track) * envelope(track.size, release=TAIL)
        mix(piece, track, at=start)
    piece = np.tanh(1.3 * piece) * envelope(piece.size, attack=0.005, release=0.5)
    return piece * float(PEAK / np.abs(piece).max())


def main() -> None:
    """Parse the command line, render the piece and write it."""
    parser = argparse.ArgumentParser(description="Renders the demo piece of musgenre demo.")
    parser.add_argument("--output", type=Path, default=Path("src/musgenre/assets/demo.ogg"), help="the OGG to write")
    path, piece = parser.parse_args().output, compose()
    soundfile.write(path, piece, RATE, format="OGG", subtype="VORBIS", compression_level=0.4)
    print(f"{path}: {piece.size / RATE:.1f} s, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
