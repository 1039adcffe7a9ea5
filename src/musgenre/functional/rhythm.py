"""Onsets, how they repeat, and the tempo."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_positive, check_size, is_power
from musgenre.functional.harmonic import normalise_frames

_START_BPM = 120.0
_MAX_BPM = 320.0


def onset_strength(decibel: Tensor, *, n_fft: int = 2048, hop_length: int = 512) -> Tensor:
    """Returns how much louder each frame is than the one before, as ``librosa.onset.onset_strength`` does.

    Rises are averaged over the bands and falls count as nothing (Böck and Widmer, "Maximum filter vibrato suppression
    for onset detection", 2013, without the filter). The result is shifted to the middle of the frames.

    Args:
        decibel: A mel spectrogram in decibels.
        n_fft: Length of the transform that it was made with, in samples.
        hop_length: Samples from one frame to the next.

    Shape:
        ``(..., bands, frames)`` to ``(..., frames)``, in decibels.

    Raises:
        ParameterError: A length is not positive.

    Example:
        >>> decibel = torch.zeros(4, 8)
        >>> decibel[:, 2:] = 10.0
        >>> onset_strength(decibel)
        tensor([ 0.,  0.,  0.,  0., 10.,  0.,  0.,  0.])
    """
    check_positive(n_fft=n_fft, hop_length=hop_length)
    rises = (decibel[..., 1:] - decibel[..., :-1]).clamp(min=0).mean(dim=-2)
    late = 1 + n_fft // (2 * hop_length)
    return torch.nn.functional.pad(rises, (late, 0))[..., : decibel.shape[-1]]


def tempogram(onsets: Tensor, *, win_length: int = 384, window: Tensor | None = None) -> Tensor:
    """Returns how well the onsets around each frame agree with themselves some frames later.

    It is ``librosa.feature.tempogram``, the local autocorrelation (Grosche, Müller and Kurth, "Cyclic tempogram",
    2010).

    Args:
        onsets: Strength of the onset in each frame, from :func:`onset_strength`.
        win_length: Frames around each frame, and number of lags.
        window: ``(win_length,)``; ``None`` is the periodic Hann window.

    Shape:
        ``(..., frames)`` to ``(..., win_length, frames)``: bin ``k`` is a lag of ``k`` frames; the largest of a frame,
        at lag 0, is 1, and all are 0 where there is no onset.

    Raises:
        ParameterError: ``win_length`` is not positive or above 4,096, or the window does not fit.

    Example:
        >>> beats = (torch.arange(200) % 20 == 0).float()
        >>> tempogram(beats, win_length=64)[10:, 100].argmax().item() + 10
        20
    """
    check_positive(win_length=win_length)
    check_size(win_length, win_length, what="A tempogram")
    if window is None:
        window = torch.hann_window(win_length, dtype=torch.float64)
    if window.shape != (win_length,):
        raise ParameterError(f"The window must have the shape ({win_length},), not {tuple(window.shape)}.")
    half = win_length // 2
    ramp = torch.arange(half, dtype=onsets.dtype, device=onsets.device) / max(1, half)
    sides = onsets[..., :1] * ramp, onsets[..., -1:] * ramp.flip(-1)
    padded = torch.cat([sides[0], onsets, sides[1]], dim=-1)
    frames = padded.unfold(-1, win_length, 1)[..., : onsets.shape[-1], :] * window.to(onsets)
    # Twice the length, so that what leaves at one end does not come in at the other.
    spectrum = torch.fft.rfft(frames, n=2 * win_length)
    power = torch.view_as_real(spectrum).square().sum(dim=-1)
    lags = torch.fft.irfft(power.to(spectrum.dtype), n=2 * win_length)[..., :win_length]
    return normalise_frames(lags.transpose(-2, -1))


def tempo(tempogram: Tensor, *, sample_rate: int, hop_length: int = 512) -> Tensor:
    """Returns the tempo in beats a minute, as ``librosa.feature.tempo`` does by default.

    The lag with the largest mean over the frames, weighted by how near it is to 120 beats a minute (a deviation of an
    octave), faster than 320 excluded (Ellis, "Beat tracking by dynamic programming", 2007). It is one of the lags, so
    that no gradient passes.

    Args:
        tempogram: From :func:`tempogram`; librosa's has lags up to 8 s.
        sample_rate: Rate of the audio, in hertz.
        hop_length: Samples from one frame to the next.

    Shape:
        ``(..., win_length, frames)`` to ``(...)``.

    Raises:
        ParameterError: A rate or length is not positive, or the lags are all too short.
    """
    check_positive(sample_rate=sample_rate, hop_length=hop_length)
    fastest = 60.0 * sample_rate / hop_length
    lags = torch.arange(1, tempogram.shape[-2], dtype=tempogram.dtype, device=tempogram.device)
    if not is_power(fastest) or fastest / max(1, len(lags)) >= _MAX_BPM:
        raise ParameterError(f"A tempogram of {tempogram.shape[-2]} lags holds no tempo below {_MAX_BPM:g} a minute.")
    beats = fastest / lags
    prior = -0.5 * (beats / _START_BPM).log2().square()
    prior = prior.masked_fill(beats >= _MAX_BPM, -torch.inf)
    strength = torch.log1p(1e6 * tempogram[..., 1:, :].mean(dim=-1))
    return beats[(strength + prior).argmax(dim=-1)]
