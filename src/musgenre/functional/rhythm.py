"""Onset strength, tempograms and tempo."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_matrix_size, check_positive, is_positive_finite
from musgenre.functional.harmonic import normalise_frames

_START_BPM = 120.0
_MAX_BPM = 320.0


def onset_strength(decibel: Tensor, *, n_fft: int = 2048, hop_length: int = 512) -> Tensor:
    """Compute the onset strength envelope of a spectrogram, as ``librosa.onset.onset_strength`` does.

    The envelope is the mean over the bands of the increase from the previous frame, where decreases count as zero (Böck
    and Widmer, "Maximum filter vibrato suppression for onset detection", 2013, without the filter). It is shifted to
    the centres of the frames.

    Args:
        decibel: A mel spectrogram in decibels.
        n_fft: Length of the Fourier transform of the spectrogram, in samples.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(..., bands, frames)`` to ``(..., frames)``, in decibels.

    Raises:
        ParameterError: A length is not a positive integer.

    Example:
        >>> decibel = torch.zeros(4, 8)
        >>> decibel[:, 2:] = 10.0
        >>> onset_strength(decibel)
        tensor([ 0.,  0.,  0.,  0., 10.,  0.,  0.,  0.])

    See Also:
        :func:`tempogram`
    """
    check_positive(n_fft=n_fft, hop_length=hop_length)
    rises = (decibel[..., 1:] - decibel[..., :-1]).clamp(min=0).mean(dim=-2)
    delay = 1 + n_fft // (2 * hop_length)
    return torch.nn.functional.pad(rises, (delay, 0))[..., : decibel.shape[-1]]


def tempogram(onsets: Tensor, *, win_length: int = 384, window: Tensor | None = None) -> Tensor:
    """Compute a tempogram: the local autocorrelation of the onset strength envelope.

    Equal to ``librosa.feature.tempogram`` (Grosche, Müller and Kurth, "Cyclic tempogram", 2010).

    Args:
        onsets: Onset strength envelope, from :func:`onset_strength`.
        win_length: Length of the autocorrelation window, in frames; also the number of lags.
        window: Window of shape ``(win_length,)``; ``None`` is the periodic Hann window.

    Shape:
        ``(..., frames)`` to ``(..., win_length, frames)``, where bin ``k`` is a lag of ``k`` frames. Each frame is
        normalised to 1 at lag 0; without onsets, it is 0.

    Raises:
        ParameterError: ``win_length`` is not a positive integer or exceeds 4,096, or the shape of the window is wrong.

    Example:
        >>> beats = (torch.arange(200) % 20 == 0).float()
        >>> tempogram(beats, win_length=64)[10:, 100].argmax().item() + 10
        20

    See Also:
        :func:`tempo`
    """
    check_positive(win_length=win_length)
    check_matrix_size(win_length, win_length, name="tempogram")
    if window is None:
        window = torch.hann_window(win_length, dtype=torch.float64)
    if window.shape != (win_length,):
        raise ParameterError(f"The window must have the shape ({win_length},), not {tuple(window.shape)}.")
    half = win_length // 2
    ramp = torch.arange(half, dtype=onsets.dtype, device=onsets.device) / max(1, half)
    fade_in, fade_out = onsets[..., :1] * ramp, onsets[..., -1:] * ramp.flip(-1)
    padded = torch.cat([fade_in, onsets, fade_out], dim=-1)
    frames = padded.unfold(-1, win_length, 1)[..., : onsets.shape[-1], :] * window.to(onsets)
    # Zero-padding to twice the length avoids circular correlation.
    spectrum = torch.fft.rfft(frames, n=2 * win_length)
    power = torch.view_as_real(spectrum).square().sum(dim=-1)
    lags = torch.fft.irfft(power.to(spectrum.dtype), n=2 * win_length)[..., :win_length]
    return normalise_frames(lags.transpose(-2, -1))


def tempo(tempogram: Tensor, *, sample_rate: int, hop_length: int = 512) -> Tensor:
    """Estimate the tempo in beats per minute, as ``librosa.feature.tempo`` does by default.

    The tempo is the lag with the largest mean autocorrelation, weighted by a log-normal prior around 120 beats per
    minute with a standard deviation of one octave; tempi from 320 beats per minute are excluded (Ellis, "Beat tracking
    by dynamic programming", 2007). Not differentiable, because the result is one of the lags.

    Args:
        tempogram: Tempogram, from :func:`tempogram`; librosa's default has lags of up to 8 s.
        sample_rate: Rate of the audio, in hertz.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(..., win_length, frames)`` to ``(...)``, in beats per minute.

    Raises:
        ParameterError: A parameter is not a positive integer, or all lags are too short.

    See Also:
        :func:`tempogram`
    """
    check_positive(sample_rate=sample_rate, hop_length=hop_length)
    fastest = 60.0 * sample_rate / hop_length
    lags = torch.arange(1, tempogram.shape[-2], dtype=tempogram.dtype, device=tempogram.device)
    if not is_positive_finite(fastest) or fastest / max(1, len(lags)) >= _MAX_BPM:
        raise ParameterError(
            f"A tempogram of {tempogram.shape[-2]} lags has no tempo below {_MAX_BPM:g} beats per minute."
        )
    bpm = fastest / lags
    prior = -0.5 * (bpm / _START_BPM).log2().square()
    prior = prior.masked_fill(bpm >= _MAX_BPM, -torch.inf)
    strength = torch.log1p(1e6 * tempogram[..., 1:, :].mean(dim=-1))
    return bpm[(strength + prior).argmax(dim=-1)]
