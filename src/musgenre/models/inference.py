"""Inference: for each batch of windows, run the network; then average over the recording.

Everything that computes on whole recordings goes through here: predictions, embeddings, features for scikit-learn, ONNX
Runtime, collections and the page.
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice, pairwise
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from musgenre.audio.options import ReadOptions
from musgenre.audio.windows import AudioSource, AudioWindows, Samples
from musgenre.core.config import AudioSpec, Prediction, Windows
from musgenre.core.errors import MusgenreError, ParameterError, WeightsError
from musgenre.core.threads import Prefetcher, WorkerPool, no_fork, raise_if_cancelled, single_core_workers
from musgenre.datasets.spectrograms import SpectrogramWindows, StoredSpectrogram
from musgenre.models.network import GenreNetwork
from musgenre.transforms.spectral import MelSpectrogram

K = TypeVar("K")
R = TypeVar("R")
Network = TypeVar("Network", bound=nn.Module)
Floats = npt.NDArray[np.float64]
Function = Callable[[Tensor], Tensor]
Source: TypeAlias = AudioSource | StoredSpectrogram
"""A recording: a path, a seekable binary file object, ``(waveform, sample_rate)``, or a stored spectrogram."""
OnError = Literal["raise", "return"]
Runtime = Literal["torch", "onnx"]
"""What runs the backbone and the head: PyTorch, or ONNX Runtime (the extra ``onnx``)."""

_SHARED_SECONDS, _CPU_SECONDS, _GPU_BATCH = 15.0, 30.0, 64


@dataclass(frozen=True)
class WindowOutputs:
    """Outputs of a function for every window of a recording.

    Attributes:
        start_seconds: Start of each window, ``(windows,)``.
        values: ``(windows, values)``.
        duration_seconds: Length of the recording.
        path: The file, or ``None`` for samples and unnamed file objects.

    Raises:
        WeightsError: A value is not finite.
    """

    start_seconds: Floats
    values: Floats
    duration_seconds: float
    path: str | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.values).all():
            raise WeightsError("The network returned values that are not finite: its weights are damaged.")

    def to_prediction(self, labels: Sequence[str]) -> Prediction:
        """Return the prediction for the recording: the mean of the probabilities of its windows."""
        mean = self.values.mean(axis=0)
        return Prediction(
            dict(zip(labels, (mean / mean.sum()).tolist(), strict=True)),
            windows=Windows(self.start_seconds, self.values),
            duration_seconds=self.duration_seconds,
            path=self.path,
        )

    def to_embedding(self) -> npt.NDArray[np.float32]:
        """Return the mean of the vectors of the windows."""
        mean: npt.NDArray[np.float32] = self.values.mean(axis=0).astype(np.float32)
        return mean


@dataclass(frozen=True, kw_only=True)
class Inference(Generic[R]):
    """Applies a function to the windows of recordings.

    Args:
        make_function: Called once a recording; returns the function from a batch of windows to one row a window.
        finish: From the outputs of a recording to its result.
        audio: Sample rate and windows.
        mel: The mel spectrogram from which the function computes; without it, stored spectrograms are an error.
        device: Device of the batches.
        batch_size: Windows in a batch, at least 1; ``None`` chooses by the device.
        reading: Limits and decoder for files.
        on_error: ``"raise"``, or ``"return"`` to return the error of a recording as its result.

    Shape:
        - the function: ``(batch, samples)``, or ``(batch, n_mels, frames)``, to ``(batch, values)``

    Raises:
        ParameterError: ``batch_size`` is below 1, or ``on_error`` is unknown.
    """

    make_function: Callable[[], Function]
    finish: Callable[[WindowOutputs], R]
    audio: AudioSpec
    device: torch.device
    mel: MelSpectrogram | None = None
    batch_size: int | None = None
    reading: ReadOptions | None = None
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ParameterError(f"batch_size must be at least 1, not {self.batch_size!r}.")
        if self.on_error not in get_args(OnError):
            raise ParameterError(f"on_error must be 'raise' or 'return', not {self.on_error!r}.")

    def run(self, source: Source | Iterable[Source]) -> R | list[R]:
        """Return the result of one recording, or a list of results for several, in order.

        Raises:
            ParameterError: ``source`` is neither a recording nor iterable.
        """
        if is_single_source(source):
            return self._run_one(cast(Source, source), self._workers())
        return list(self.run_each(source))

    def run_each(self, sources: Source | Iterable[Source]) -> Iterator[R]:
        """Return an iterator over the results of several recordings, in order, a few of which are computed ahead.

        Files given by path, and stored spectrograms, are processed in parallel, each by a thread that uses one core.
        Samples and file objects are processed before the next source is taken, since the caller may reuse the memory or
        close the file; for these, decoding and the network share the cores.

        Raises:
            ParameterError: ``sources`` is a single recording.
        """
        if is_single_source(sources):
            raise ParameterError("Expected an iterable of recordings, got a single one: put it in a list.")
        return self._run_each(cast(Iterable[Source], sources))

    def _run_each(self, sources: Iterable[Source]) -> Iterator[R]:
        workers = self._workers()
        for is_parallel, group in groupby(sources, key=_is_parallel):
            first = list(islice(group, 2)) if is_parallel else []
            if len(first) == 2:
                rest = chain(first, group)  # noqa: B031 - continues where islice has stopped
                yield from workers.map(lambda source: self._run_one(source, WorkerPool()), rest)
            else:
                for source in chain(first, group):
                    yield self._run_one(source, workers)

    def _run_one(self, source: Source, workers: WorkerPool) -> R:
        path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
        try:
            return self.finish(self._outputs(source, path=path, workers=workers))
        except MusgenreError as error:
            error.path = path
            if self.on_error == "raise":
                raise
            _clear_frames(error)
            return cast(R, error)

    def _outputs(self, source: Source, *, path: str | None, workers: WorkerPool) -> WindowOutputs:
        function = self.make_function()
        windows: AudioWindows | SpectrogramWindows
        if isinstance(source, StoredSpectrogram):
            windows = SpectrogramWindows(source, self.audio, mel=self.mel)
        else:
            windows = AudioWindows(source, self.audio, reading=self.reading)
        seconds = self.audio.window_seconds
        size = self.batch_size or batch_size_for(self.device, window_seconds=seconds, is_shared=workers.is_parallel)
        with contextlib.ExitStack() as stack:
            iterator = stack.enter_context(contextlib.closing(iter(windows)))
            batches = batched(iterator, size)
            if workers.is_parallel:  # a separate thread decodes
                batches = stack.enter_context(Prefetcher(batches))
            rows = list(workers.map(lambda batch: run_batch(batch, function, device=self.device), batches))
        starts, values = zip(*rows, strict=True)
        return WindowOutputs(np.concatenate(starts), np.concatenate(values), windows.duration_seconds, path=path)

    def _workers(self) -> WorkerPool:
        # As many threads as PyTorch would use itself; only CPUs and CUDA support several threads.
        return single_core_workers(torch.get_num_threads() if self.device.type in ("cpu", "cuda") else 1)


def batched(windows: Iterable[tuple[K, Samples]], size: int) -> Iterator[list[tuple[K, Samples]]]:
    """Group windows, each with a key such as its start, into batches."""
    iterator = iter(windows)
    while batch := list(islice(iterator, size)):
        yield batch


def run_batch(batch: list[tuple[K, Samples]], function: Function, *, device: torch.device) -> tuple[list[K], Floats]:
    """Apply a function to a batch of windows.

    Returns:
        The keys of the windows, and the rows ``(batch, values)``.

    Raises:
        CancelledError: The result is no longer wanted; see :func:`~musgenre.core.threads.raise_if_cancelled`.
    """
    raise_if_cancelled()
    with no_fork(), torch.inference_mode():
        samples = torch.from_numpy(np.stack([window for _, window in batch])).to(device)
        rows: Floats = function(samples).double().cpu().numpy()
    return [key for key, _ in batch], rows


def batch_size_for(device: torch.device, *, window_seconds: float, is_shared: bool = True) -> int:
    """Return the default number of windows in a batch.

    On a CPU, a batch of 30 s takes 10 % less time than two of 15 s, but the latter give two cores work in a clip of
    30 s. A GPU needs large batches.

    Args:
        device: Device of the network.
        window_seconds: Length of a window.
        is_shared: Whether several threads share the windows.
    """
    if device.type != "cpu":
        return _GPU_BATCH
    return max(1, math.ceil((_SHARED_SECONDS if is_shared else _CPU_SECONDS) / window_seconds))


def is_single_source(source: object) -> bool:
    """Return whether a value is one recording rather than an iterable of them.

    Raises:
        ParameterError: It is neither.
    """
    if isinstance(source, str | os.PathLike | tuple | StoredSpectrogram) or hasattr(source, "read"):
        return True
    if not isinstance(source, Iterable):
        raise ParameterError(
            "Expected a path, a binary file object, (waveform, rate) or an iterable of these, got "
            f"{type(source).__name__}."
        )
    return False


def _is_parallel(source: Source) -> bool:
    """Return whether a recording stays unchanged until it is processed."""
    return isinstance(source, str | os.PathLike | StoredSpectrogram)


class CompiledNetwork:
    """Caches a fused copy of a network; rebuilt when layers or weights change.

    Changes that bypass PyTorch's version counters, through ``weight.data`` or NumPy, are not detected.

    Args:
        window_samples: Length of the windows, for ONNX Runtime's graph.
        runtime: ``"torch"`` or ``"onnx"``.

    Raises:
        ParameterError: ``runtime`` is unknown; or later, ONNX Runtime or the exporter is not installed.
    """

    def __init__(self, *, window_samples: int, runtime: Runtime = "torch") -> None:
        if runtime not in get_args(Runtime):
            raise ParameterError(f"runtime must be 'torch' or 'onnx', not {runtime!r}.")
        self.runtime = runtime
        self._window_samples = window_samples
        self._cached: tuple[Any, tuple[GenreNetwork, Function | None]] | None = None

    def compiled(self, network: GenreNetwork) -> tuple[GenreNetwork, Function | None]:
        """Return the fused network and, with ONNX Runtime, the function from the feature to logits.

        Args:
            network: The network, in evaluation mode.
        """
        state = _state(network)
        cached = self._cached
        if cached is None or cached[0] != state:
            # Two threads may both build it, with equal results.
            cached = self._cached = (state, self._build(network))
        return cached[1]

    def function(
        self, network: GenreNetwork, *, temperature: float, probabilities: bool = True, embedding: bool = False
    ) -> Function:
        """Return the function from a batch of windows to probabilities, embeddings, or both side by side.

        Args:
            network: The network, in evaluation mode.
            temperature: Divisor of the logits.
            probabilities: Whether the rows start with the probabilities.
            embedding: Whether the rows end with the backbone's output.

        Shape:
            - the function: ``(batch, samples)`` to ``(batch, classes + embedding_size)``
        """
        fused_network, classify = self.compiled(network)

        def function(batch: Tensor) -> Tensor:
            feature = fused_network.feature(batch)
            columns = []
            if embedding or classify is None:
                vectors = fused_network.backbone(feature)
            if probabilities:
                logits = fused_network.head(vectors) if classify is None else classify(feature)
                columns.append((logits.double() / temperature).softmax(dim=1))
            if embedding:
                columns.append(vectors.double())
            return torch.cat(columns, dim=1)

        return function

    def _build(self, network: GenreNetwork) -> tuple[GenreNetwork, Function | None]:
        if self.runtime == "torch":
            return fused(network), None
        from musgenre.models.onnx import onnx_classifier

        return fused(network), onnx_classifier(network, window_samples=self._window_samples)


def fused(network: Network) -> Network:
    """Fuse batch normalisation into convolutions.

    In every plain ``nn.Sequential``, an ``nn.Conv2d`` followed by an ``nn.BatchNorm2d`` becomes one convolution. A
    network without such a pair is returned unchanged.

    Args:
        network: A network in evaluation mode. It is not modified, and shares all other weights with the result.

    Example:
        >>> layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
        >>> [type(layer).__name__ for layer in fused(layers)]
        ['Conv2d', 'Identity', 'ReLU']
    """
    children = {name: None if child is None else fused(child) for name, child in network._modules.items()}
    if type(network) is nn.Sequential:
        names = list(children)
        for first, second in pairwise(names):
            conv, norm = children[first], children[second]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and _can_be_fused(conv, norm):
                children[first], children[second] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    if all(children[name] is child for name, child in network._modules.items()):
        return network
    copied = copy.copy(network)
    copied._modules = children
    return copied


def _can_be_fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    # Subclasses may compute more, and hooks expect the intermediate result.
    plain = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.running_mean is not None
    hooks = (conv._forward_hooks, conv._forward_pre_hooks, norm._forward_hooks, norm._forward_pre_hooks)
    return plain and not (conv.training or norm.training or any(hooks))


def _state(network: nn.Module) -> Any:
    """Return a value that changes when a layer or weight is replaced, or a weight changes in place."""
    modules = tuple(network.modules())
    # Not parameters(), whose search for duplicates takes longer than everything else here.
    owned = (tensor for module in modules for kind in (module._parameters, module._buffers) for tensor in kind.values())
    # A tensor created in inference mode has no version counter; it cannot change outside of that mode either.
    versions = tuple(
        (tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version) for tensor in owned if tensor is not None
    )
    return versions, tuple(map(id, modules)), network.training


def _clear_frames(error: BaseException) -> None:
    """Free the local variables of an error's traceback, such as decoded blocks; the line numbers remain."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next  # the first frame is still running
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
