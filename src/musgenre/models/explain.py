"""Why a network named a genre: which parts of a window's picture spoke for it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from musgenre.audio import AudioSource, AudioWindows
from musgenre.core.config import ModelConfig, Prediction
from musgenre.core.errors import ParameterError
from musgenre.core.registry import unknown_name
from musgenre.models.inference import batch_size_for
from musgenre.models.network import GenreNetwork

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Picture = npt.NDArray[np.float32]
Method = Literal["grad-cam", "integrated-gradients"]
"""How a saliency map is computed; :class:`Explanation` says what each means."""

_STEPS = 64
_SMOOTH_CELLS = 2.0
_NOISES, _NOISE_SEED = 16, 0
_FEWEST_CELLS = 4
"""Grad-CAM takes no maps of fewer rows or columns, if an earlier stage has more."""

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True)
class Explanation:
    """What spoke for a genre in one window of a song.

    The saliency says what moved this network's answer. It does not say what makes music of that genre.

    Attributes:
        label: The genre that is explained.
        probability: What the window gives it, in [0, 1].
        start_seconds: Where the window starts in the song.
        window_seconds: How long it is.
        saliency: The weight of each cell of the picture for the label's logit. ``"grad-cam"`` (Selvaraju et al., 2017,
            arXiv:1610.02391): the maps of a late stage, weighted by their gradient, none below 0, of no unit; coarse.
            ``"integrated-gradients"`` (Sundararajan et al., 2017, arXiv:1703.01365): what each cell adds to the logit,
            or takes from it, compared with pink noise that is as loud (:func:`noise_picture`); all add up to the
            difference of the two logits.
        spectrogram: The picture that the network saw, in the feature's unit; of several channels the first.
        method: How the saliency was computed.
        bins_hz: The frequency of each row in hertz, or ``None`` where rows are no frequencies. The columns divide the
            window evenly.

    Shape:
        - saliency, spectrogram: ``(bins, frames)``, the lowest bin first
        - bins_hz: ``(bins,)``
    """

    label: str
    probability: float
    start_seconds: float
    window_seconds: float
    saliency: Picture
    spectrogram: Picture
    method: Method
    bins_hz: npt.NDArray[np.float64] | None = None

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the saliency over the spectrogram; see :func:`musgenre.plotting.plot_saliency`.

        Integrated gradients weigh single cells, and are blurred a little so that they can be read.

        Args:
            ax: Where to draw; by default on a new figure.
        """
        from musgenre.plotting.saliency import plot_saliency

        seconds = (self.start_seconds, self.start_seconds + self.window_seconds)
        ax = plot_saliency(
            self.saliency,
            spectrogram=self.spectrogram,
            seconds=seconds,
            bins_hz=self.bins_hz,
            smooth_cells=0.0 if self.method == "grad-cam" else _SMOOTH_CELLS,
            ax=ax,
        )
        share = 100 * self.probability
        ax.set_title(f"What speaks for {self.label} ({share:.0f} %): {self.method}", loc="left", parse_math=False)
        return ax


class Explainer:
    """Explains what one network says, by Captum (the extra ``explain``).

    It works on a copy that shares the weights, so that it disturbs no prediction that runs meanwhile, and it takes the
    network as it was trained, not as it is fused for prediction.

    Args:
        network: The network, in evaluation mode.
        config: Its configuration.
        method: How the saliency is computed.

    Raises:
        UnknownNameError: There is no such method.
        ParameterError: Captum is not installed.
    """

    def __init__(self, network: GenreNetwork, config: ModelConfig, *, method: Method = "grad-cam") -> None:
        if method not in get_args(Method):
            raise unknown_name(method, kind="method of explanation", names=get_args(Method))
        self._captum = _captum()
        tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
        self.network = copy.deepcopy(network, cast(dict[int, Any], tensors))
        self.config = config
        self.method = method

    def explain(
        self, source: AudioSource, *, prediction: Prediction, label: str | None = None, window: int | None = None
    ) -> Explanation:
        """Explains one window of a song.

        Args:
            source: The song.
            prediction: What the classifier said of it.
            label: The genre to explain; by default the song's.
            window: The number of the window, from 0, as in ``prediction.windows``; by default the one that gives the
                label the highest probability.

        Raises:
            UnknownNameError: The model knows no such label.
            ParameterError: There is no such window, or the network has no maps for ``"grad-cam"``.
            AudioFileError, AudioError: As for :meth:`musgenre.models.classifier.GenreClassifier.predict`.
        """
        labels = self.config.labels
        label = prediction.label if label is None else label
        if label not in labels:
            raise unknown_name(label, kind="label", names=labels)
        index = labels.index(label)
        shares = prediction.windows.probabilities[:, index]
        number = int(shares.argmax()) if window is None else window
        if not 0 <= number < len(shares):
            raise ParameterError(f"window must be from 0 to {len(shares) - 1} in this song, not {window!r}.")
        with contextlib.closing(iter(AudioWindows(source, self.config.audio))) as windows:
            start, samples = next(islice(windows, number, None))
        with torch.inference_mode(mode=False):
            saliency, picture = self.saliency(torch.from_numpy(samples), target=index)
        bins_hz = self.network.feature.bins_hz()
        return Explanation(
            label=label,
            probability=float(shares[number]),
            start_seconds=start,
            window_seconds=self.config.audio.window_seconds,
            saliency=saliency.cpu().numpy(),
            spectrogram=picture.cpu().numpy(),
            method=self.method,
            bins_hz=None if bins_hz is None else bins_hz.double().cpu().numpy(),
        )

    def saliency(self, waveform: Tensor, *, target: int) -> tuple[Tensor, Tensor]:
        """Returns the saliency of one window's picture, and the picture.

        Args:
            waveform: The window.
            target: The place of the label among the labels.

        Shape:
            - waveform: ``(samples,)``
            - Output: twice ``(bins, frames)``

        Raises:
            ParameterError: The network has no maps for ``"grad-cam"``.
        """
        device = next(self.network.parameters()).device
        with torch.no_grad():
            picture = self.network.feature(waveform.to(device)[None])
        with torch.enable_grad():
            if self.method == "grad-cam":
                saliency = self._grad_cam(picture, target=target)
            else:
                baseline = noise_picture(self.network.feature, waveform.to(device))
                saliency = self._integrated_gradients(picture, baseline, target=target)
        return saliency.detach(), picture[0, 0]

    def _grad_cam(self, picture: Tensor, *, target: int) -> Tensor:
        cam = self._captum.LayerGradCam(self.network.classify, _layer_of_maps(self.network, picture))
        maps = cam.attribute(picture.clone().requires_grad_(), target=target, relu_attributions=True)
        size = (picture.shape[-2], picture.shape[-1])
        return self.network.backbone.upsample_maps(maps, size=size)

    def _integrated_gradients(self, picture: Tensor, baseline: Tensor, *, target: int) -> Tensor:
        attributions: Tensor = self._captum.IntegratedGradients(self.network.classify).attribute(
            picture, baseline, target=target, n_steps=_STEPS, internal_batch_size=batch_size_for(picture.device)
        )
        return attributions[0].sum(dim=0)


def noise_picture(feature: nn.Module, waveform: Tensor) -> Tensor:
    """Returns what a feature makes of pink noise that is as loud as a window: a neutral sound to compare with.

    Noise whose power falls by 3 dB an octave has music's rough balance of low and high, and nothing else of it. Silence
    would not do: networks that standardise their picture answer to everything on the way from it at once. The picture
    is the mean over 16 draws of always the same noise.

    Args:
        feature: The feature extractor.
        waveform: The window.

    Shape:
        - waveform: ``(samples,)``
        - Output: ``(1, channels, bins, frames)``
    """
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    spectrum = torch.fft.rfft(torch.randn(_NOISES, len(waveform), generator=generator))
    noise = torch.fft.irfft(spectrum / torch.arange(spectrum.shape[-1]).clamp(min=1).sqrt(), n=len(waveform))
    level = waveform.square().mean().sqrt()
    noise = noise.to(waveform) * (level / noise.to(waveform).square().mean(dim=1, keepdim=True).sqrt())
    with torch.no_grad():
        mean: Tensor = feature(noise).mean(dim=0, keepdim=True)
    return mean


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError as error:
        raise ParameterError(
            f"Explanations need Captum, which cannot be imported ({error}): pip install 'musgenre[explain]'."
        ) from error
    return captum.attr


def _layer_of_maps(network: GenreNetwork, picture: Tensor) -> nn.Module:
    """Returns the module whose maps Grad-CAM weighs: the last stage's that has some, and not too few cells.

    A stage's maps are what its last module gives that is not pooling, since pooling only makes them coarser.
    """
    maps: dict[int, tuple[nn.Module, tuple[int, int]]] = {}

    def recorder(number: int) -> Callable[..., None]:
        def record(*seen: Any) -> None:
            module, _, output = seen
            if isinstance(output, Tensor) and output.ndim == 4 and not _pools(module):
                rows, columns = output.shape[-2:]
                if rows * columns > 1:
                    maps[number] = (module, (rows, columns))

        return record

    stages = network.backbone.stages()
    hooks = [module.register_forward_hook(recorder(number)) for number, module in _modules(stages)]
    with torch.no_grad():
        network.classify(picture)
    for hook in hooks:
        hook.remove()
    found = [maps[number] for number in sorted(maps)]
    fine = [one for one in found if min(one[1]) >= _FEWEST_CELLS]
    layer, cells = (fine or found or [(nn.Identity(), (0, 0))])[-1]
    if not 0 < max(cells) <= max(picture.shape[-2:]):
        raise ParameterError(
            "'grad-cam' needs a backbone whose stages give maps of (batch, channels, rows, columns), which this one's "
            "do not: use method='integrated-gradients', which takes any network."
        )
    return layer


def _modules(stages: list[nn.Module]) -> Iterator[tuple[int, nn.Module]]:
    return ((number, module) for number, stage in enumerate(stages) for module in stage.modules())


def _pools(module: nn.Module) -> bool:
    chain = isinstance(module, nn.Sequential) and len(module) > 0
    return isinstance(module, _POOLS) or (chain and _pools(cast(nn.Sequential, module)[-1]))
