"""Composes and renders the short piece that ``musgenre demo`` listens to.

One theme of ten notes and one progression (A minor, D minor, E, A minor) pass through four guises: a
waltz for piano and strings, a disco, a reggae and a metal section. Every sound is computed here, from
sums of partials, shaped noise and ``tanh``; the same seed gives the same samples.

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
FINE_RATE = 4 * RATE  # for what is distorted
SECONDS = 27.75
TAIL = 1.5  # seconds that a section rings on under the next one
SEED = 20_240
PEAK = 10 ** (-1.2 / 20)  # a little under -1 dBFS, for Vorbis overshoots

# Pitches are MIDI numbers: 69 is the A of 440 Hz, twelve make an octave.
THEME = (69, 72, 74, 76, 77, 76, 74, 71, 72, 69)
CHORDS = ((57, 60, 64), (57, 62, 65), (56, 62, 64), (57, 60, 64))
ROOTS = (33, 38, 40, 33)


def partials(pitch: float, seconds: float, *, weights: Sound, fade: float, rate: int = RATE) -> Sound:
    """A plucked or struck string, as the sum of its harmonics from the fundamental up.

    The fundamental dies away by ``fade`` nepers a second, harmonic k (1 + k / 4) times as fast.
    """
    t = np.arange(round(seconds * rate)) / rate
    hertz = 440.0 * 2 ** ((pitch - 69) / 12)
    sound = np.zeros_like(t)
    for k, weight in enumerate(weights, start=1):
        # Stiffness: the partials of a real string lie a little wide of the harmonics.
        partial = k * hertz * np.sqrt(1 + 2e-4 * k * k)
        if partial < 0.46 * RATE:
            sound += weight * np.sin(2 * np.pi * partial * t) * np.exp(-fade * (1 + k / 4) * t)
    return sound * ramp(t.size, attack=0.003, release=0.02, rate=rate)


def bowed(pitch: float, seconds: float, *, attack: float, bright: float) -> Sound:
    """Strings: three detuned saw-tooth voices with vibrato, softened above ``bright`` hertz."""
    t = np.arange(round(seconds * RATE)) / RATE
    vibrato = 0.0004 * np.minimum(t / 0.4, 1) * np.sin(2 * np.pi * 5.4 * t)
    sound = np.zeros_like(t)
    for voice, detune in enumerate((-0.06, 0.0, 0.07)):
        hertz = 440.0 * 2 ** ((pitch + detune - 69) / 12)
        phase = 2 * np.pi * hertz * (t + vibrato) + 2.1 * voice
        for k in range(1, int(min(0.46 * RATE, 5 * bright) / hertz) + 1):
            sound += np.sin(k * phase) / (k * (1 + (k * hertz / bright) ** 2))
    return 0.5 * sound * ramp(t.size, attack=attack, release=0.12)


def hiss(seconds: float, *, band: tuple[float, float], fade: float, rng: np.random.Generator) -> Sound:
    """Noise in a band of frequencies, in hertz, that dies away by ``fade`` nepers a second."""
    noise = rng.standard_normal(round(seconds * RATE))
    decay = np.exp(-fade * np.arange(noise.size) / RATE)
    return band_pass(noise, band=band) * decay * ramp(noise.size, attack=0.001, release=0.02)


def kick(*, low: float = 48.0, seconds: float = 0.3, click: float = 0.3) -> Sound:
    """A bass drum: a sine that falls to ``low`` hertz, with a click at its start."""
    t = np.arange(round(seconds * RATE)) / RATE
    fall = low * t + (150 / 35) * (1 - np.exp(-35 * t))
    beater = click * np.sin(2 * np.pi * 2_800 * t) * np.exp(-t / 0.004)
    return (np.sin(2 * np.pi * fall) * np.exp(-t * 3 / seconds) + beater) * ramp(t.size, attack=0.001, release=0.03)


def snare(rng: np.random.Generator, *, ring: float = 190.0) -> Sound:
    """A snare drum: rattling wires over a short tone of ``ring`` hertz."""
    wires = hiss(0.25, band=(1_200, 9_000), fade=18, rng=rng)
    t = np.arange(wires.size) / RATE
    return 0.9 * wires + 0.8 * np.sin(2 * np.pi * ring * t) * np.exp(-25 * t)


def clap(rng: np.random.Generator) -> Sound:
    """Several hands, never quite together."""
    sound = np.zeros(round(0.3 * RATE))
    for at in (0.0, 0.011, 0.023):
        put(sound, hiss(0.22, band=(900, 6_000), fade=28 if at == 0.023 else 120, rng=rng), at=at)
    return sound


def ramp(size: int, *, attack: float = 0.0, release: float = 0.0, rate: int = RATE) -> Sound:
    """An envelope that rises over ``attack`` seconds and falls over the last ``release``."""
    seconds = np.arange(size) / rate
    rise = np.minimum(seconds / attack, 1) if attack else np.ones(size)
    fall = np.minimum(seconds[::-1] / release, 1) if release else np.ones(size)
    return rise * fall


def band_pass(sound: Sound, *, band: tuple[float, float], rate: int = RATE) -> Sound:
    """Keeps the frequencies between two, in hertz, with slopes of 12 dB an octave (zero phase)."""
    hertz = np.fft.rfftfreq(2 * sound.size, 1 / rate)
    gain = 1 / (1 + (band[0] / np.maximum(hertz, 1e-9)) ** 2) / (1 + (hertz / band[1]) ** 2)
    return np.fft.irfft(np.fft.rfft(sound, 2 * sound.size) * gain)[: sound.size]


def overdrive(sound: Sound, *, gain: float) -> Sound:
    """A guitar amplifier: ``tanh``, a cabinet that scoops the middle, and the step down to ``RATE``.

    The curve makes harmonics above the final rate's range; at ``FINE_RATE`` they can be cut off before
    they fold back as false tones.
    """
    tight = band_pass(sound, band=(400, 9_000), rate=FINE_RATE)
    body = band_pass(np.tanh(gain * tight / np.std(tight)), band=(80, 5_500), rate=FINE_RATE)
    middle, presence = (band_pass(body, band=band, rate=FINE_RATE) for band in ((250, 900), (2_200, 5_500)))
    loud = body - 0.7 * middle + 3 * presence
    size = loud.size * RATE // FINE_RATE
    return np.fft.irfft(np.fft.rfft(loud * RATE / FINE_RATE)[: size // 2 + 1], size)


def room(sound: Sound, *, wet: float, seconds: float, rng: np.random.Generator) -> Sound:
    """Adds a room: convolution with noise that dies away over ``seconds``, duller than the sound."""
    t = np.arange(round(seconds * RATE)) / RATE
    echo = band_pass(rng.standard_normal(t.size), band=(250, 4_000)) * np.exp(-6.9 * t / seconds)
    size = sound.size + t.size
    tail = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(echo, size), size)[: sound.size]
    tail *= wet * np.std(sound) / np.std(tail)
    return sound + tail


def put(track: Sound, sound: Sound, *, at: float, gain: float = 1.0, rate: int = RATE) -> None:
    """Mixes a sound into a track from ``at`` seconds on; what overhangs its end is dropped."""
    start = round(at * rate)
    part = sound[: max(track.size - start, 0)]
    track[start : start + part.size] += gain * part


def notes(pitches: Iterable[int], beats: Iterable[float]) -> Iterable[tuple[int, float, float]]:
    """Yields pitch, onset and length, in beats, of notes that follow one another."""
    at = 0.0
    for pitch, length in zip(pitches, beats, strict=True):
        yield pitch, at, length
        at += length


def string(count: int, *, slope: float, point: float) -> Sound:
    """Weights of a string's harmonics, plucked or struck at one ``point``-th of its length."""
    k = np.arange(1.0, count + 1)
    weights: Sound = np.abs(np.sin(np.pi * k / point)) / k**slope
    return weights


PIANO = string(18, slope=1.3, point=7.3)
GUITAR = string(24, slope=1.0, point=5.2)
BRIDGE = string(40, slope=0.6, point=7.3)
BASS = np.array([1.0, 0.7, 0.5, 0.35, 0.25, 0.16, 0.1, 0.06])
ROUND_BASS = np.array([1.0, 0.35, 0.1, 0.03])
ORGAN = np.array([1.0, 0.8, 0.0, 0.5, 0.0, 0.2])


def waltz(rng: np.random.Generator) -> Sound:
    """Four bars of three: the theme on the piano, its chords broken, strings that swell."""
    beat, track = 7 / 12, np.zeros(round((7 + TAIL) * RATE))
    for bar, (root, chord) in enumerate(zip(ROOTS, CHORDS, strict=True)):
        start, swell = 3 * bar * beat, 0.7 + 0.15 * min(bar, 2)
        put(track, partials(root, 2.2, weights=PIANO, fade=0.9), at=start, gain=0.5 * swell)
        for step, pitch in enumerate((chord[0], chord[1], chord[2], chord[1], chord[2])):
            put(track, partials(pitch, 1.6, weights=PIANO, fade=1.6), at=start + (step + 1) * beat / 2, gain=0.22)
        for pitch in (root, *chord):
            strings = bowed(pitch, 3 * beat + 0.3, attack=0.5, bright=900)
            put(track, strings, at=max(start - 0.1, 0), gain=0.09 * swell)
    for pitch, at, length in notes(THEME, (2, 1, 1.5, 0.5, 1, 1.5, 0.5, 1, 1, 2)):
        put(track, partials(pitch, length * beat + 1.2, weights=PIANO, fade=1.1), at=at * beat, gain=0.6)
        put(track, bowed(pitch + 12, length * beat + 0.15, attack=0.12, bright=1_500), at=at * beat, gain=0.1)
    return room(track, wet=0.35, seconds=2.2, rng=rng)


def disco(rng: np.random.Generator) -> Sound:
    """Four bars of four at 120: bass drum on every beat, octaves in the bass, strings above."""
    beat, track = 0.5, np.zeros(round((8 + TAIL) * RATE))
    wet = np.zeros_like(track)
    for step in range(64):  # sixteenths
        at, place = step * beat / 4, step % 4
        put(track, hiss(0.2, band=(6_500, 10_500), fade=(90, 90, 14, 90)[place], rng=rng), at=at, gain=0.6)
        if place == 0:
            put(track, kick(), at=at)
        if step % 8 == 4:
            put(wet, clap(rng), at=at, gain=0.8)
        if place % 2 == 0:
            pitch = ROOTS[step // 16] + (12 if place == 2 else 0)
            put(track, partials(pitch, 0.24, weights=BASS, fade=5), at=at, gain=0.5)
        if step % 16 in (3, 6, 11, 14):
            for pitch in CHORDS[step // 16]:
                put(track, partials(pitch + 12, 0.12, weights=GUITAR, fade=12), at=at, gain=0.22)
    for bar, chord in enumerate(CHORDS):
        for at, length in ((0, 1.2), (1.5, 1.8), (3.5, 0.6)):
            for pitch in chord:
                strings = bowed(pitch + 12, length * beat, attack=0.03, bright=4_000)
                put(wet, strings, at=(4 * bar + at) * beat, gain=0.16)
    for pitch, at, length in notes(THEME, (2.5, 1.5, 2, 1, 1, 1.5, 1, 1.5, 1, 3)):
        for octave in (0, 12):
            put(wet, bowed(pitch + octave, length * beat, attack=0.06, bright=4_000), at=at * beat, gain=0.22)
    return track + room(wet, wet=0.3, seconds=1.2, rng=rng)


def reggae(rng: np.random.Generator) -> Sound:
    """Two bars of four at 80: the chord off the beat, the drum on the third, deep bass, a melodica."""
    beat, track = 0.75, np.zeros(round((6 + TAIL) * RATE))
    wet, echo = np.zeros_like(track), np.zeros_like(track)
    for half in range(4):  # one chord each
        start, root, chord = 2 * half * beat, ROOTS[half], CHORDS[half]
        for step, pitch, length in ((0, root, 0.7), (0.75, root, 0.3), (1, root + 7, 0.45), (1.5, root - 2, 0.45)):
            sound = partials(pitch, length * beat, weights=ROUND_BASS, fade=1)
            put(track, sound, at=start + step * beat, gain=0.6)
        for pitch in chord:
            for step in (0.5, 1.5):
                put(wet, partials(pitch + 12, 0.13, weights=GUITAR, fade=10), at=start + step * beat, gain=0.4)
            for step in (0.25, 0.5, 1.25, 1.5):
                put(track, partials(pitch, 0.14, weights=ORGAN, fade=4), at=start + step * beat, gain=0.12)
        for eighth in range(4):
            tick = hiss(0.05, band=(6_500, 10_500), fade=90, rng=rng)
            put(track, tick, at=start + (eighth / 2 + 0.03 * (eighth % 2)) * beat, gain=0.35 - 0.15 * (eighth % 2))
        if half % 2:
            put(track, kick(low=44, seconds=0.4, click=0.1), at=start, gain=1.1)
            put(wet, snare(rng, ring=420), at=start, gain=0.45)
    for pitch, at, length in notes(THEME, (1.25, 0.75, 0.75, 0.5, 0.75, 0.75, 0.5, 0.75, 0.5, 1.5)):
        put(wet, bowed(pitch, length * beat, attack=0.05, bright=1_800), at=at * beat, gain=0.3)
    for repeat in (1, 2, 3):
        put(echo, wet, at=repeat * 0.75 * beat, gain=0.35**repeat)
    return track + room(wet + echo, wet=0.15, seconds=0.9, rng=rng)


def metal(rng: np.random.Generator) -> Sound:
    """Four bars of four at 160: power chords through an amplifier, double bass drum, a crying lead."""
    beat, drums = 0.375, np.zeros(round((6 + TAIL) * RATE))
    chords, lead = np.zeros(4 * drums.size), np.zeros(4 * drums.size)
    for bar, root in enumerate((45, 38, 40, 45)):
        start = 4 * bar * beat
        for sixteenths, places in ((3.8, (0, 12)), (1.6, (4, 6, 7, 8, 10, 11, 15))):
            chord = power_chord(root, sixteenths * beat / 4)
            for place in places:
                put(chords, chord, at=start + place * beat / 4, rate=FINE_RATE)
        for place in range(16):
            gain = 0.6 if place % 4 else 0.85
            put(drums, kick(low=55, seconds=0.15, click=0.9), at=start + place * beat / 4, gain=gain)
        for place in (4, 12):
            put(drums, snare(rng), at=start + place * beat / 4, gain=1.4)
        for step in range(8):
            put(drums, hiss(0.3, band=(5_000, 10_500), fade=9, rng=rng), at=start + step * beat / 2, gain=0.35)
    put(chords, power_chord(45, TAIL), at=16 * beat, rate=FINE_RATE)
    put(drums, kick(low=50), at=16 * beat)
    for bar in (0, 2, 4):
        put(drums, hiss(1.5, band=(3_000, 10_500), fade=3.5, rng=rng), at=4 * bar * beat, gain=0.7)
    for pitch, at, length in notes(THEME, (2.5, 1.5, 1.5, 0.5, 2, 2, 1, 1, 1, 3)):
        string = partials(pitch + 12, length * beat, weights=GUITAR, fade=0.6, rate=FINE_RATE)
        put(lead, string, at=at * beat, rate=FINE_RATE)
    guitars = 0.45 * overdrive(chords, gain=6) + 0.2 * overdrive(lead, gain=2)
    return room(drums, wet=0.4, seconds=0.5, rng=rng) + room(guitars, wet=0.12, seconds=0.8, rng=rng)


def power_chord(root: int, seconds: float) -> Sound:
    """Root, fifth and octave, played twice and not quite in tune, before the amplifier, at ``FINE_RATE``."""
    chord = np.zeros(round(seconds * FINE_RATE))
    for tone in (0, 7, 12, 0.08, 7.06):
        chord += partials(root + tone, seconds, weights=BRIDGE, fade=0.8, rate=FINE_RATE)
    return chord


PLAN = ((waltz, 0.0, -22.0), (disco, 7.0, -18.0), (reggae, 15.0, -18.5), (metal, 21.0, -15.5))
"""Each section, the second it starts at, and its level in decibels (root mean square, full scale 0)."""


def compose(seed: int = SEED) -> Sound:
    """Renders the piece: ``(samples,)`` at ``RATE``, its peak at ``PEAK``."""
    rng = np.random.default_rng(seed)
    piece = np.zeros(round(SECONDS * RATE))
    for section, start, level in PLAN:
        track = section(rng)
        track *= 10 ** (level / 20) / np.std(track) * ramp(track.size, release=TAIL)
        put(piece, track, at=start)
        if section in (disco, metal):  # a cymbal played backwards leads in
            put(piece, hiss(0.8, band=(3_000, 9_000), fade=6, rng=rng)[::-1], at=start - 0.8, gain=0.1)
    piece = np.tanh(1.3 * piece) * ramp(piece.size, attack=0.005, release=0.5)
    return piece * float(PEAK / np.abs(piece).max())


def main() -> None:
    """Reads the command line, renders and writes."""
    parser = argparse.ArgumentParser(description="Renders the piece that musgenre demo listens to.")
    parser.add_argument("--output", type=Path, default=Path("src/musgenre/assets/demo.ogg"), help="the OGG to write")
    path, piece = parser.parse_args().output, compose()
    soundfile.write(path, piece, RATE, format="OGG", subtype="VORBIS")
    print(f"{path}: {piece.size / RATE:.1f} s, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
