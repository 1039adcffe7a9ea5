"""Synthetic signals that are not music."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]


def rms(wave: npt.NDArray[np.floating]) -> float:
    """Return the root mean square plus 1e-5, which is never 0."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) + 1e-5


def noise(samples: int, *, rate: int, slope: float, draws: np.random.Generator) -> Array:
    """Return noise of unit RMS with a power spectrum of ``1 / f**slope`` (0 white, 1 pink)."""
    hertz = np.fft.rfftfreq(samples, 1 / rate)
    spectrum = (draws.normal(size=len(hertz)) + 1j * draws.normal(size=len(hertz))) * (hertz + 20) ** (-slope / 2)
    wave = np.fft.irfft(spectrum, samples)
    return wave / rms(wave)


def speech_like(samples: int, *, rate: int, draws: np.random.Generator) -> Array:
    """Return pulses or noise, filtered by three formants and modulated at syllable rate."""
    times = np.arange(samples) / rate
    pitch = draws.uniform(80, 250) * (1 + 0.05 * np.sin(2 * np.pi * 3 * times))
    pulses = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / rate))
    source = noise(samples, rate=rate, slope=1.0, draws=draws) if draws.random() < 0.5 else pulses
    hertz = np.fft.rfftfreq(samples, 1 / rate)
    formants = [(draws.uniform(*limits), width) for limits, width in _FORMANTS]
    response = sum(1 / (1 + ((hertz - centre) / width) ** 2) for centre, width in formants)
    syllables = np.clip(np.sin(2 * np.pi * draws.uniform(2, 6) * times + draws.uniform(0, 6)), 0, 1)
    wave: Array = np.fft.irfft(np.fft.rfft(source) * response, samples) * syllables
    return wave


_FORMANTS = (((250, 900), 80), ((900, 2500), 120), ((2200, 3500), 200))


def not_music(samples: int, *, rate: int, draws: np.random.Generator) -> Floats:
    """Return a random signal: silence, noise, tones, speech-like noise, clicks; 40 % of them with added noise."""
    times = np.arange(samples) / rate

    def tone(low: float, high: float) -> Array:
        wave: Array = np.sin(2 * np.pi * np.exp(draws.uniform(np.log(low), np.log(high))) * times)
        return wave

    def silence() -> Array:
        return np.zeros(samples) if draws.random() < 0.3 else 1e-4 * noise(samples, rate=rate, slope=0, draws=draws)

    def sweep() -> Array:
        first, last = np.exp(draws.uniform(np.log(30), np.log(9_000), size=2))
        wave: Array = np.sin(2 * np.pi * np.cumsum(first * (last / first) ** (times / times[-1])) / rate)
        return wave

    def clicks() -> Array:
        wave = np.zeros(samples)
        wave[draws.integers(0, samples, draws.integers(1, 40))] = 1.0
        return wave

    def modulated_noise() -> Array:
        wave: Array = noise(samples, rate=rate, slope=draws.uniform(0, 2), draws=draws)
        return wave * np.clip(np.sin(2 * np.pi * draws.uniform(1, 12) * times), 0, 1) ** draws.uniform(0.2, 2)

    kinds: tuple[Callable[[], Array], ...] = (
        silence,
        lambda: noise(samples, rate=rate, slope=draws.uniform(0, 2), draws=draws),
        lambda: tone(30, 10_000),
        lambda: np.sum([tone(50, 6_000) for _ in range(draws.integers(2, 6))], axis=0),
        *(lambda: speech_like(samples, rate=rate, draws=draws),) * 4,
        modulated_noise,
        sweep,
        clicks,
        lambda: np.sign(tone(40, 2_000)),
    )
    wave = kinds[draws.integers(len(kinds))]()
    if draws.random() < 0.4:
        hiss = noise(samples, rate=rate, slope=draws.uniform(0, 2), draws=draws)
        wave = wave / rms(wave) + hiss * 10 ** (-draws.uniform(0, 50) / 20)
    loud = rms(wave) > 1e-3
    return (wave / rms(wave) * 0.1 if loud else wave).astype(np.float32)


def probes(samples: int, *, rate: int) -> dict[str, Floats]:
    """Return the fixed set of test signals of the model card."""
    draws = np.random.default_rng(2026)
    times = np.arange(samples) / rate
    waves: dict[str, Array] = {"silence": np.zeros(samples), "faint direct current": np.full(samples, 1e-6)}
    for name, slope in (("white", 0.0), ("pink", 1.0), ("brown", 2.0)):
        waves[f"{name} noise"] = noise(samples, rate=rate, slope=slope, draws=draws)
    for number in range(4):
        waves[f"speech-like noise {number + 1}"] = speech_like(samples, rate=rate, draws=draws)
    for hertz in (50, 110, 220, 440, 880, 1_000, 1_760, 4_000, 8_000):
        waves[f"tone of {hertz} Hz"] = np.sin(2 * np.pi * hertz * times)
    return {name: (0.1 * wave / max(rms(wave), 0.1)).astype(np.float32) for name, wave in waves.items()}
