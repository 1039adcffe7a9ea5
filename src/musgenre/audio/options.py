"""How far a file is trusted: what is read of it at most, and where it is decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from musgenre.core.errors import AudioFileError, ParameterError

if TYPE_CHECKING:
    from musgenre.audio.subprocess_decoder import Processes

Decode = Literal["inline", "subprocess"]
"""Where files are decoded: in this process, or in another one."""


@dataclass(frozen=True)
class ReadOptions:
    """How far files are trusted that are read; one beyond a limit is an :class:`~musgenre.core.errors.AudioFileError`.

    The limits hold for files and file objects. Samples that are given as an array are in memory already. A file that
    says how long it is, is refused before anything is decoded; another one where the limit is reached.

    Attributes:
        max_duration_seconds: The longest file, in seconds; by default eleven hours.
        max_channels: The most channels.
        max_bytes: The largest file; by default 16 GiB, which holds those eleven hours as a WAV file in stereo.
        decode: ``"inline"`` decodes in this process. ``"subprocess"`` has another process do it, which is handed the
            file's bytes and hands back samples: a decoder that crashes or never ends costs that file alone. The process
            stays warm, and lives as long as this object; where several threads read, there are several.
        timeout_seconds: With ``"subprocess"``, how long the decoder may compute until it has the next ten seconds of
            audio, or asks for more bytes.

    Raises:
        ParameterError: A value is out of range.

    Example:
        >>> ReadOptions(max_duration_seconds=600).check("song.wav", seconds=601.0)
        Traceback (most recent call last):
        ...
        musgenre.core.errors.AudioFileError: song.wav: 601.0 seconds; at most 600 are read. Raise ...
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

    def check(self, name: str, *, size: int = 0, channels: int = 0, seconds: float = 0.0) -> None:
        """Compares what is known of a file with the limits.

        Args:
            name: What messages call the file.
            size: Its bytes.
            channels: Its channels.
            seconds: Its length as far as it is known.

        Raises:
            AudioFileError: It is beyond a limit.
        """
        for unit, value, limit in (
            ("bytes", size, "max_bytes"),
            ("channels", channels, "max_channels"),
            ("seconds", round(seconds, 1), "max_duration_seconds"),
        ):
            most = getattr(self, limit)
            if value > most:
                raise AudioFileError(
                    f"{name}: {value} {unit}; at most {most} are read. Raise {limit} of ReadOptions if the file is "
                    "to be trusted."
                )

    @cached_property
    def processes(self) -> Processes:
        """The processes that decode; none is started before a file needs it.

        :meta private:
        """
        from musgenre.audio.subprocess_decoder import Processes

        return Processes(timeout_seconds=self.timeout_seconds)
