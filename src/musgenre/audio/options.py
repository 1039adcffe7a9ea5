"""Limits for files, and where they are decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from musgenre.core.errors import ParameterError

if TYPE_CHECKING:
    from musgenre.audio.subprocess_decoder import DecoderProcesses

Decode = Literal["inline", "subprocess"]
"""Where files are decoded: in this process, or in another one."""


@dataclass(frozen=True)
class ReadOptions:
    """Limits for files, and where they are decoded. A file beyond a limit raises AudioFileError.

    The limits apply to files and file objects, not to arrays. If the header of a file declares its length, the file is
    rejected before anything is decoded, otherwise as soon as the limit is reached.

    Attributes:
        max_duration_seconds: Maximum length in seconds; eleven hours by default.
        max_channels: Maximum number of channels.
        max_bytes: Maximum size; 16 GiB by default, which holds eleven hours of stereo WAV.
        decode: ``"inline"`` decodes in this process. ``"subprocess"`` decodes in a worker process, which receives the
            bytes of the file and returns samples: a decoder that crashes or hangs affects that file only. Worker
            processes are reused and end with this object; there is one for each thread that reads.
        timeout_seconds: With ``"subprocess"``, the time in seconds that the decoder may take for ten seconds of audio.

    Raises:
        ParameterError: A value is out of range.

    Example:
        >>> import musgenre
        >>> short = ReadOptions(max_duration_seconds=600)
        >>> musgenre.audio.load(([0.0] * 22_050, 22_050), sample_rate=22_050, reading=short).shape
        (22050,)
    """

    max_duration_seconds: float = 39_600.0
    max_channels: int = 256
    max_bytes: int = 2**34
    decode: Decode = "inline"
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_duration_seconds", "max_channels", "max_bytes", "timeout_seconds"):
            value = getattr(self, name)
            if not value > 0:
                raise ParameterError(f"{name} must be positive, not {value!r}.")
        if not math.isfinite(self.timeout_seconds):
            raise ParameterError("timeout_seconds must be finite.")
        if self.decode not in get_args(Decode):
            raise ParameterError(f"decode must be 'inline' or 'subprocess', not {self.decode!r}.")

    @cached_property
    def processes(self) -> DecoderProcesses:
        """The worker processes; none is started before the first file is read.

        :meta private:
        """
        from musgenre.audio.subprocess_decoder import DecoderProcesses

        return DecoderProcesses(timeout_seconds=self.timeout_seconds)
