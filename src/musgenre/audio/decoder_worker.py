"""The process that decodes for another one. It is handed bytes through a pipe, and hands back samples.

It opens no file by itself, writes none, and takes no more than a gigabyte where the system lets that be said. What
passes between the two is JSON and plain numbers, so that neither side can make the other run anything.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

MOST_MEMORY = 2**30
MOST_PAYLOAD = 2**23  # bytes; a block of samples has half of that at most
MOST_HEADER = 2**16
_SIZES = struct.Struct("<II")


class Channel:
    """Messages through a pair of pipes: a small JSON object each, and bytes with it.

    Args:
        reading: Where messages come from.
        writing: Where messages go.
    """

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self._reading = reading
        self._writing = writing

    def send(self, payload: bytes | memoryview = b"", **message: Any) -> None:
        """Sends a message.

        Raises:
            OSError: The other side is gone.
        """
        header = json.dumps(message).encode()
        self._writing.write(_SIZES.pack(len(header), len(payload)) + header)
        self._writing.write(payload)
        self._writing.flush()

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Waits for a message.

        Raises:
            EOFError: The other side is gone.
            ValueError: What came is no message.
        """
        header, payload = _SIZES.unpack(self._exactly(_SIZES.size))
        if header > MOST_HEADER or payload > MOST_PAYLOAD:
            raise ValueError("a message that is too long")
        message = json.loads(self._exactly(header))
        if not isinstance(message, dict):
            raise ValueError("a message that is no object")
        return message, self._exactly(payload)

    def _exactly(self, count: int) -> bytes:
        data = self._reading.read(count)
        if len(data) < count:
            raise EOFError
        return data


class _Remote(io.RawIOBase):
    """The file, whose bytes the other process has."""

    def __init__(self, channel: Channel, size: int) -> None:
        self._channel = channel
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._position, MOST_PAYLOAD))
        if count:
            self._channel.send(read=[self._position, count])
            _, data = self._channel.receive()
            count = len(data)
            buffer[:count] = data
            self._position += count
        return count


class _Server:
    """Does what it is asked to, one file at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._decoder: Any = None
        self._parts: Iterator[Any] = iter(())

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes | memoryview]:
        if request["do"] == "open":
            return self._open(request["name"], request["size"]), b""
        if request["do"] == "start":
            self._parts = self._decoder.parts(request["start"], request["stop"])
        elif request["do"] == "next":
            part = next(self._parts, None)
            return {}, b"" if part is None else memoryview(part.tobytes())
        else:
            self._close()
        return {}, b""

    def _open(self, name: str, size: int) -> dict[str, Any]:
        from musgenre.audio.byte_stream import ByteStream
        from musgenre.audio.decoder import Decoder

        self._close()
        file: Any = _Remote(self._channel, size)
        self._decoder = Decoder(ByteStream(file, name))
        return {"rate": self._decoder.rate, "channels": self._decoder.channels, "frames": self._decoder.frames}

    def _close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._decoder, self._parts = None, iter(())


def serve() -> None:
    """Answers requests from the standard input on the standard output until the other process is gone."""
    import musgenre.audio.decoder  # noqa: F401 - what takes time, and memory, comes before the limits
    from musgenre.core.errors import AudioError

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to both; the other one decides
    channel = Channel(_taken(0, "rb"), _taken(1, "wb"))
    _confine()
    server = _Server(channel)
    channel.send(ready=True)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the other process is gone: nobody is left to be told
        while True:
            request, _ = channel.receive()
            try:
                answer, payload = server.answer(request)
            except AudioError as error:
                channel.send(error=type(error).__name__, message=str(error))
            except (EOFError, BrokenPipeError):
                raise
            except Exception as error:  # noqa: BLE001 - told to the other process, which raises it
                channel.send(error="", message=repr(error)[:1000])
            else:
                channel.send(payload, **answer)


def _taken(descriptor: int, mode: str) -> Any:
    """Opens one end of a pipe under another number, so that what C code prints does not come between."""
    file = os.fdopen(os.dup(descriptor), mode)
    with open(os.devnull, mode) as sink:
        os.dup2(sink.fileno(), descriptor)
    return file


def _confine() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for limit, most in (("RLIMIT_AS", MOST_MEMORY), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        with contextlib.suppress(OSError, ValueError):  # macOS knows some of them by name only
            resource.setrlimit(getattr(resource, limit), (most, most))
