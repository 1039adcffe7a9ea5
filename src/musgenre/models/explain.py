"""Saliency maps: which parts of a spectrogram contributed to a predicted genre."""

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

Map = npt.NDArray[np.float32]
Method = Literal["grad-cam", "integrated-gradients"]
"""Method of computing a saliency map; see :class:`Explanation`."""

_STEPS = 64
_SMOOTH_CELLS = 2.0
_NOISES, _NOISE_SEED = 16, 0
_FEWEST_CELLS = 4
"""Minimum rows and columns of the feature maps for Grad-CAM, if an earlier stage has that many."""

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True)
class Explanation:
    """Saliency map of a genre in one window of a recording.

    Saliency describes this network's decision; it does not define what makes music belong to the genre.

    Attributes:
        label: The genre.
        probability: Probability of the genre in this window, in [0, 1].
        start_seconds: Start of the window in the recording.
        window_seconds: Length of the window.
        saliency: Contribution of each cell of the spectrogram to the logit of the label. ``"grad-cam"`` (Selvaraju et
            al., 2017, arXiv:1610.02391): feature maps of a late stage, weighted by their gradients, clipped at 0,
            without unit; coarse. ``"integrated-gradients"`` (Sundararajan et al., 2017, arXiv:1703.01365): attribution
            of each cell relative to a baseline of equally loud pink noise (:func:`noise_baseline`); the attributions
            add up to the difference of the two logits.
        spectrogram: Input of the backbone, in the unit of the feature; the first channel if there are several.
        method: Method of computing the saliency.
        bins_hz: Frequency of each row in hertz, or ``None`` if rows are not frequencies. Columns divide the window
            evenly.

    Shape:
        - saliency, spectrogram: ``(bins, frames)``, the lowest bin first
        - bins_hz: ``(bins,)``
    """

    label: str
    probability: float
    start_seconds: float
    window_seconds: float
    saliency: Map
    spectrogram: Map
    method: Method
    bins_hz: npt.NDArray[np.float64] | None = None

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot the saliency over the spectrogram; see :func:`musgenre.plotting.plot_saliency`.

        Integrated gradients are slightly blurred, since they attribute to single cells.

        Args:
            ax: Axes to draw on; by default those of a new figure.
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
        ax.set_title(f"Saliency for {self.label} ({share:.0f} %): {self.method}", loc="left", parse_math=False)
        return ax


class Explainer:
    """Computes saliency maps of a network with Captum (the extra ``explain``).

    It uses a copy that shares the weights, so that concurrent predictions are not affected, and the original
    network instead of the fused one.

    Args:
        network: The network, in evaluation mode.
        config: Its configuration.
        method: Method of computing the saliency.

    Raises:
        UnknownNameError: The method does not exist.
        ParameterError: Captum is not installed.
    """

    def __init__(self, network: GenreNetwork, config: ModelConfig, *, method: Method = "grad-cam") -> None:
        if method not in get_args(Method):
            raise unknown_name(method, kind="explanation method", names=get_args(Method))
        self._captum = _captum()
        tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
        self.network = copy.deepcopy(network, cast(dict[int, Any], tensors))
        self.config = config
        self.method = method

    def explain(
        self, source: AudioSource, *, prediction: Prediction, label: str | None = None, window: int | None = None
    ) -> Explanation:
        """Compute the saliency map of one window.

        Args:
            source: The recording.
            prediction: The classifier's prediction for it.
            label: The genre; by default the predicted one.
            window: Index of the window in ``prediction.windows``, from 0; by default the one in which the label has the
                highest probability.

        Raises:
            UnknownNameError: The model does not have the label.
            ParameterError: The window does not exist, or the network has no feature maps for ``"grad-cam"``.
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
            raise ParameterError(f"window must be from 0 to {len(shares) - 1} for this recording, not {window!r}.")
        with contextlib.closing(iter(AudioWindows(source, self.config.audio))) as windows:
            start, samples = next(islice(windows, number, None))
        with torch.inference_mode(mode=False):
            saliency, spectrogram = self.saliency(torch.from_numpy(samples), target=index)
        bins_hz = self.network.feature.bins_hz()
        return Explanation(
            label=label,
            probability=float(shares[number]),
            start_seconds=start,
            window_seconds=self.config.audio.window_seconds,
            saliency=saliency.cpu().numpy(),
            spectrogram=spectrogram.cpu().numpy(),
            method=self.method,
            bins_hz=None if bins_hz is None else bins_hz.double().cpu().numpy(),
        )

    def saliency(self, waveform: Tensor, *, target: int) -> tuple[Tensor, Tensor]:
        """Return the saliency of one window, and its spectrogram.

        Args:
            waveform: The window.
            target: Index of the label.

        Shape:
            - waveform: ``(samples,)``
            - Output: twice ``(bins, frames)``

        Raises:
            ParameterError: The network has no feature maps for ``"grad-cam"``.
        """
        device = next(self.network.parameters()).device
        with torch.no_grad():
            feature = self.network.feature(waveform.to(device)[None])
        with torch.enable_grad():
            if self.method == "grad-cam":
                saliency = self._grad_cam(feature, target=target)
            else:
                baseline = noise_baseline(self.network.feature, waveform.to(device))
                saliency = self._integrated_gradients(feature, baseline, target=target)
        return saliency.detach(), feature[0, 0]

    def _grad_cam(self, feature: Tensor, *, target: int) -> Tensor:
        cam = self._captum.LayerGradCam(self.network.classify, _find_map_layer(self.network, feature))
        maps = cam.attribute(feature.clone().requires_grad_(), target=target, relu_attributions=True)
        size = (feature.shape[-2], feature.shape[-1])
        return self.network.backbone.upsample_maps(maps, size=size)

    def _integrated_gradients(self, feature: Tensor, baseline: Tensor, *, target: int) -> Tensor:
        size = batch_size_for(feature.device, window_seconds=self.config.audio.window_seconds)
        attributions: Tensor = self._captum.IntegratedGradients(self.network.classify).attribute(
            feature, baseline, target=target, n_steps=_STEPS, internal_batch_size=size
        )
        return attributions[0].sum(dim=0)


def noise_baseline(feature: nn.Module, waveform: Tensor) -> Tensor:
    """Return the feature of pink noise with the level of a window, as a neutral baseline.

    The power of pink noise falls by 3 dB an octave, about the average balance of music, without any other structure.
    Silence is not suitable: for a network that standardises its input, every cell matters on the path from silence to
    music. The baseline is the mean of the features of 16 fixed draws.

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


def _find_map_layer(network: GenreNetwork, feature: Tensor) -> nn.Module:
    """Return the layer whose feature maps Grad-CAM uses: of the last stage that has maps with enough cells.

    The maps of a stage are the output of its last layer that is not pooling, since pooling only makes them coarser.
    """
    maps: dict[int, tuple[nn.Module, tuple[int, int]]] = {}

    def recorder(number: int) -> Callable[..., None]:
        def record(*arguments: Any) -> None:
            module, _, output = arguments
            if isinstance(output, Tensor) and output.ndim == 4 and not _pools(module):
                rows, columns = output.shape[-2:]
                if rows * columns > 1:
                    maps[number] = (module, (rows, columns))

        return record

    stages = network.backbone.stages()
    hooks = [module.register_forward_hook(recorder(number)) for number, module in _modules(stages)]
    with torch.no_grad():
        network.classify(feature)
    for hook in hooks:
        hook.remove()
    found = [maps[number] for number in sorted(maps)]
    fine = [one for one in found if min(one[1]) >= _FEWEST_CELLS]
    layer, cells = (fine or found or [(nn.Identity(), (0, 0))])[-1]
    if not 0 < max(cells) <= max(feature.shape[-2:]):
        raise ParameterError(
            "'grad-cam' needs a backbone whose stages return feature maps (batch, channels, rows, columns), "
            "which this one's do not; use method='integrated-gradients', which supports any network."
        )
    return layer


def _modules(stages: list[nn.Module]) -> Iterator[tuple[int, nn.Module]]:
    return ((number, module) for number, stage in enumerate(stages) for module in stage.modules())


def _pools(module: nn.Module) -> bool:
    chain = isinstance(module, nn.Sequential) and len(module) > 0
    return isinstance(module, _POOLS) or (chain and _pools(cast(nn.Sequential, module)[-1]))
