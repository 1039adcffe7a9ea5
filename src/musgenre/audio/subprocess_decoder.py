"""Decode untrusted files in worker processes, which run :mod:`musgenre.audio.decoder_worker`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np

from musgenre.audio.decoder import ByteStream, Frames, whole_rate
from musgenre.audio.decoder_worker import MOST_PAYLOAD, Channel
from musgenre.core.errors import AudioError, AudioFileError, ParameterError

# The worker imports from this process's module path only. "python -m" would search the working directory first, which
# may contain untrusted files.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from musgenre.audio.decoder_worker import serve; serve()"
)
_START_SECONDS = 120.0


class DecoderProcesses:
    """A pool of idle decoder processes, which grows on demand.

    Args:
        timeout_seconds: Time in seconds after which a process that computes is killed.
    """

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._idle: list[_Process] = []

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, here or in another process, starts its own processes.
        return _make, (self._timeout_seconds,)

    def open(self, source: ByteStream) -> SubprocessDecoder:
        """Open a file in an idle process, or in a new one.

        Raises:
            AudioFileError: As :class:`~musgenre.audio.decoder.Decoder`; or the decoder crashed or timed out.
            ParameterError: No process can be started.
        """
        return SubprocessDecoder(source, self)

    def acquire(self) -> _Process:
        """Return an idle process, or start one."""
        while self._idle:
            try:
                process = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if process.is_alive():
                return process
        return _Process(self._timeout_seconds)

    def release(self, process: _Process) -> None:
        """Return a process to the pool. Never waits, so that it may run in a finaliser."""
        if process.is_alive():
            self._idle.append(process)


def _make(timeout_seconds: float) -> DecoderProcesses:
    return DecoderProcesses(timeout_seconds=timeout_seconds)


class SubprocessDecoder:
    """A file that another process decodes, with the attributes of :class:`~musgenre.audio.decoder.Decoder`.

    Args:
        source: The bytes of the file.
        processes: The pool to take a process from.
    """

    def __init__(self, source: ByteStream, processes: DecoderProcesses) -> None:
        self.name = source.title
        self._source = source
        self._processes = processes
        self._process: _Process | None = processes.acquire()
        try:
            answer, _ = self._request(do="open", name=self.name, size=source.size)
            self.rate = whole_rate(answer["rate"], self.name, kind=AudioFileError)
            self.channels = int(answer["channels"])
            self.frames: int | None = answer["frames"]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Return the process to the pool; the next file that it opens replaces this one. Never waits."""
        process, self._process = self._process, None
        if process is not None:
            self._processes.release(process)

    __del__ = close

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        """Yield the frames from ``start`` to ``stop``, or to the end, in blocks ``(frames, channels)``.

        Raises:
            AudioFileError: As :meth:`Decoder.parts <musgenre.audio.decoder.Decoder.parts>`; or the decoder crashed or
                timed out.
        """
        self._request(do="start", start=start, stop=stop)
        while payload := self._request(do="next")[1]:
            yield np.frombuffer(payload, np.float32).reshape(-1, self.channels)

    def _request(self, **request: Any) -> tuple[dict[str, Any], bytes]:
        if self._process is None:
            raise AudioFileError(f"{self.name}: is closed.")
        with self._source.errors("cannot be read"):  # an exception of the file object takes precedence
            answer, payload = self._process.request(self._source, request)
        if "error" in answer:
            message = str(answer.get("message"))
            if not answer["error"]:
                raise AudioFileError(f"{self.name}: its decoder failed ({message}); convert the file or omit it.")
            raise (AudioError if answer["error"] == "AudioError" else AudioFileError)(message)
        return answer, payload


class _Process:
    """One decoder process, and the pipes to it."""

    def __init__(self, timeout_seconds: float) -> None:
        # OpenBLAS would reserve memory for one thread a core.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-I", "-c", _BOOT, json.dumps([os.path.abspath(path) for path in sys.path])]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            # The working directory is not that of the files, where libsndfile would look for macOS resource forks.
            # The command consists of this interpreter and this package only.
            self._process = subprocess.Popen(command, env=environment, cwd=os.path.abspath(os.sep), **pipes)  # nosec B603
        except OSError as error:
            raise ParameterError(
                f"decode='subprocess': no process can be started with {sys.executable!r} ({error}); use 'inline'."
            ) from error
        self._owner = os.getpid()
        self._timed_out = False
        self._kill = weakref.finalize(self, _kill, self._process, self._owner)  # at exit as well
        self._timeout_seconds = timeout_seconds
        self._channel = Channel(cast(BinaryIO, self._process.stdout), cast(BinaryIO, self._process.stdin))
        try:
            with self._killed_after(_START_SECONDS):
                self._channel.receive()
        except (EOFError, OSError, ValueError) as error:
            self.stop()
            raise ParameterError(f"decode='subprocess': {sys.executable!r} cannot import musgenre.audio.") from error

    def stop(self) -> None:
        """Kill the process and wait for its end."""
        self._kill()
        if self._owner == os.getpid():
            self._process.wait()

    def is_alive(self) -> bool:
        """Return whether this process may use it: after a fork, the pipes belong to the parent."""
        return self._kill.alive and self._owner == os.getpid() and self._process.poll() is None

    def request(self, source: ByteStream, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Send a request, send the bytes that the decoder reads, and return the answer.

        Raises:
            AudioFileError: The process ended, was killed, or sent an invalid answer.
        """
        data, left = b"", self._timeout_seconds
        try:
            while True:
                begun = time.monotonic()
                with self._killed_after(left):
                    self._channel.send(data, **request)
                    answer, payload = self._channel.receive()
                left -= time.monotonic() - begun  # the time to read the file does not count
                if "read" not in answer:
                    return answer, payload
                start, count = (max(0, int(number)) for number in answer["read"])
                request, data = {}, source.read(start, min(count, MOST_PAYLOAD))
        except (EOFError, OSError, ValueError, TypeError) as error:
            self.stop()
            raise AudioFileError(f"{source.title}: {self._reason()}; convert the file or omit it.") from error
        except BaseException:  # Ctrl-C between request and answer: the two no longer match
            self.stop()
            raise

    def _reason(self) -> str:
        if self._timed_out:
            return f"its decoder did not answer within {self._timeout_seconds:g} s and was stopped"
        code = self._process.returncode
        try:
            return f"its decoder crashed ({signal.Signals(-code).name})"
        except ValueError:
            return f"its decoder exited with code {code}"

    @contextlib.contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._time_out)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _time_out(self) -> None:
        self._timed_out = True
        self._process.kill()


def _kill(process: subprocess.Popen[bytes], owner: int) -> None:
    """Kill a process without waiting for its end, since this may run in a finaliser; a fork closes its pipes only."""
    if owner == os.getpid():
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # data that were not sent are lost
                pipe.close()
    process.poll()
