"""The decoder process: receives the bytes of a file through a pipe and returns samples.

It opens and writes no files, and its memory is limited to a gigabyte where the system supports it. Messages are JSON
and plain numbers, so that neither side can make the other run code.
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
MOST_PAYLOAD = 2**23  # bytes; at least twice a block of samples
MOST_HEADER = 2**16
_SIZES = struct.Struct("<II")


class Channel:
    """Messages through a pair of pipes: a small JSON object each, with an optional payload of bytes.

    Args:
        reading: Pipe to receive from.
        writing: Pipe to send to.
    """

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self._reading = reading
        self._writing = writing

    def send(self, payload: bytes | memoryview = b"", **message: Any) -> None:
        """Send a message.

        Raises:
            OSError: The other process has ended.
        """
        header = json.dumps(message).encode()
        self._writing.write(_SIZES.pack(len(header), len(payload)) + header)
        self._writing.write(payload)
        self._writing.flush()

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Wait for a message.

        Raises:
            EOFError: The other process has ended.
            ValueError: The data are not a message.
        """
        header, payload = _SIZES.unpack(self._exactly(_SIZES.size))
        if header > MOST_HEADER or payload > MOST_PAYLOAD:
            raise ValueError("the message is too long")
        message = json.loads(self._exactly(header))
        if not isinstance(message, dict):
            raise ValueError("the message is not an object")
        return message, self._exactly(payload)

    def _exactly(self, count: int) -> bytes:
        data = self._reading.read(count)
        if len(data) < count:
            raise EOFError
        return data


class _Remote(io.RawIOBase):
    """The file, read through the channel."""

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
    """Handles requests, one open file at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._decoder: Any = None
        self._parts: Iterator[Any] = iter(())

    def handle(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes | memoryview]:
        if request["do"] == "open":  # replaces the file before
            return self._open(request["name"], request["size"]), b""
        if request["do"] == "start":
            self._parts = self._decoder.parts(request["start"], request["stop"])
            return {}, b""
        part = next(self._parts, None)
        return {}, b"" if part is None else memoryview(part.tobytes())

    def _open(self, name: str, size: int) -> dict[str, Any]:
        from musgenre.audio.decoder import ByteStream, Decoder

        if self._decoder is not None:
            self._decoder.close()
        self._decoder, self._parts = None, iter(())
        file: Any = _Remote(self._channel, size)
        self._decoder = Decoder(ByteStream(file, name))
        return {"rate": self._decoder.rate, "channels": self._decoder.channels, "frames": self._decoder.frames}


def serve() -> None:
    """Handle requests from standard input, with answers on standard output, until the other process ends."""
    import musgenre.audio.decoder  # noqa: F401 - imported before the limits apply
    from musgenre.core.errors import AudioError

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the other one handles it
    channel = Channel(_redirected(0, "rb"), _redirected(1, "wb"))
    _confine()
    server = _Server(channel)
    channel.send(ready=True)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the other process has ended
        while True:
            request, _ = channel.receive()
            try:
                answer, payload = server.handle(request)
            except AudioError as error:
                channel.send(error=type(error).__name__, message=str(error))
            except (EOFError, BrokenPipeError):
                raise
            except Exception as error:  # noqa: BLE001 - sent to the other process, which raises it
                channel.send(error="", message=repr(error)[:1000])
            else:
                channel.send(payload, **answer)


def _redirected(descriptor: int, mode: str) -> Any:
    """Open one end of a pipe under another descriptor, so that output of C code does not corrupt the messages."""
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
        with contextlib.suppress(OSError, ValueError):  # macOS does not support all of them
            resource.setrlimit(getattr(resource, limit), (most, most))
