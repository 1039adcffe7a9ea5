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

from musgenre.audio.byte_stream import ByteStream
from musgenre.audio.decoder import Frames, whole_rate
from musgenre.audio.decoder_worker import MOST_PAYLOAD, Channel
from musgenre.core.errors import AudioError, AudioFileError, ParameterError

# It looks for modules where this process does, and nowhere else: "python -m" would begin with the folder that it is
# started in, which may hold whatever came with the songs.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from musgenre.audio.decoder_worker import serve; serve()"
)
_START_SECONDS = 120.0


class Processes:
    """Warm processes that decode, as many as are wanted at a time.

    Args:
        timeout_seconds: How long one may compute before it is stopped.
    """

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._idle: list[_Process] = []

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, here or in another process, starts its own.
        return _make, (self._timeout_seconds,)

    def open(self, source: ByteStream) -> IsolatedDecoder:
        """Has a file decoded by an idle process, or a new one.

        Raises:
            AudioFileError: As :class:`~musgenre.audio.decoder.Decoder`; or the decoder crashed, or took too long.
            ParameterError: No process can be started.
        """
        return IsolatedDecoder(source, self)

    def take(self) -> _Process:
        """Returns an idle process, or starts one."""
        while self._idle:
            try:
                process = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if process.is_alive():
                return process
        return _Process(self._timeout_seconds)

    def give_back(self, process: _Process) -> None:
        """Takes a process that has nothing to do."""
        self._idle.append(process)


def _make(timeout_seconds: float) -> Processes:
    return Processes(timeout_seconds=timeout_seconds)


class IsolatedDecoder:
    """A file that another process decodes, with a :class:`~musgenre.audio.decoder.Decoder`'s attributes.

    Args:
        source: Its bytes.
        processes: Who may decode it.
    """

    def __init__(self, source: ByteStream, processes: Processes) -> None:
        self.name = source.title
        self._source = source
        self._processes = processes
        self._process = processes.take()
        try:
            answer, _ = self._ask(do="open", name=self.name, size=source.size)
            self.rate = whole_rate(answer["rate"], self.name, kind=AudioFileError)
            self.channels = int(answer["channels"])
            self.frames: int | None = answer["frames"]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the process back, if it is still there."""
        if self._process.is_alive():
            with contextlib.suppress(AudioError):  # it is gone, and what it was asked for has been had
                self._process.ask(self._source, {"do": "close"})
                self._processes.give_back(self._process)

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        """Yields the frames from ``start`` to ``stop``, or to the end, in blocks ``(frames, channels)``.

        Raises:
            AudioFileError: As :meth:`Decoder.parts <musgenre.audio.decoder.Decoder.parts>`; or the decoder crashed,
                or took too long.
        """
        self._ask(do="start", start=start, stop=stop)
        while payload := self._ask(do="next")[1]:
            yield np.frombuffer(payload, np.float32).reshape(-1, self.channels)

    def _ask(self, **request: Any) -> tuple[dict[str, Any], bytes]:
        with self._source.errors("cannot be read"):  # what the file object raised goes before what came of it
            answer, payload = self._process.ask(self._source, request)
        if "error" in answer:
            message = str(answer.get("message"))
            if not answer["error"]:
                raise AudioFileError(f"{self.name}: its decoder failed ({message}); convert it, or leave it out.")
            raise (AudioError if answer["error"] == "AudioError" else AudioFileError)(message)
        return answer, payload


class _Process:
    """One process that decodes, and the pipes to it."""

    def __init__(self, timeout_seconds: float) -> None:
        # OpenBLAS would set memory aside for as many threads as there are cores.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-I", "-c", _BOOT, json.dumps([os.path.abspath(path) for path in sys.path])]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            # Not in the folder of songs, where libsndfile would look for the other half of a Mac's files.
            # What is run is this interpreter and this package, whatever the songs are.
            self._process = subprocess.Popen(command, env=environment, cwd=os.path.abspath(os.sep), **pipes)  # nosec B603
        except OSError as error:
            raise ParameterError(
                f"decode='subprocess': no process can be started with {sys.executable!r} ({error}); use 'inline'."
            ) from error
        self._owner = os.getpid()
        self._timed_out = False
        self.stop = weakref.finalize(self, _stop, self._process, self._owner)  # at exit as well
        self._timeout_seconds = timeout_seconds
        self._channel = Channel(cast(BinaryIO, self._process.stdout), cast(BinaryIO, self._process.stdin))
        try:
            with self._stopped_after(_START_SECONDS):
                self._channel.receive()
        except (EOFError, OSError, ValueError) as error:
            self.stop()
            raise ParameterError(f"decode='subprocess': {sys.executable!r} cannot import musgenre.audio.") from error

    def is_alive(self) -> bool:
        """Whether it can be asked, by this process: a fork must not use its parent's pipes."""
        return self.stop.alive and self._owner == os.getpid() and self._process.poll() is None

    def ask(self, source: ByteStream, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Sends a request, hands over the bytes that it takes, and returns the answer.

        Raises:
            AudioFileError: The process ended, was stopped, or answered with nonsense.
        """
        data, left = b"", self._timeout_seconds
        try:
            while True:
                begun = time.monotonic()
                with self._stopped_after(left):
                    self._channel.send(data, **request)
                    answer, payload = self._channel.receive()
                left -= time.monotonic() - begun  # reading the file is not the decoder's fault
                if "read" not in answer:
                    return answer, payload
                start, count = (max(0, int(number)) for number in answer["read"])
                request, data = {}, source.read(start, min(count, MOST_PAYLOAD))
        except (EOFError, OSError, ValueError, TypeError) as error:
            self.stop()
            raise AudioFileError(f"{source.title}: {self._reason()}; convert it, or leave it out.") from error
        except BaseException:  # Ctrl-C between question and answer: the two no longer agree
            self.stop()
            raise

    def _reason(self) -> str:
        if self._timed_out:
            return f"its decoder had no answer within {self._timeout_seconds:g} s, and was stopped"
        code = self._process.returncode
        try:
            return f"its decoder crashed ({signal.Signals(-code).name})"
        except ValueError:
            return f"its decoder ended with the code {code}"

    @contextlib.contextmanager
    def _stopped_after(self, seconds: float) -> Iterator[None]:
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


def _stop(process: subprocess.Popen[bytes], owner: int) -> None:
    """Ends a process and closes its pipes; a fork only closes its own ends."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not sent cannot be sent now
                pipe.close()
    if owner == os.getpid():
        process.kill()
        process.wait()
