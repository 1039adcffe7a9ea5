"""Files that are never half written."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside ``path`` to write to; when the block ends well, that file takes the place of ``path``.

    When it does not, ``path`` is as it was and nothing is left beside it. Several processes may replace one file at a
    time: the last one wins, whole.

    Raises:
        OSError: The file cannot take its place; errors of the block pass as they are.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "notes.txt"
        ...     with replacing(path) as partial:
        ...         _ = partial.write_text("do re mi")
        ...     path.read_text(), len(list(Path(folder).iterdir()))
        ('do re mi', 1)
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        # Where even this fails (a folder that is gone or read-only), the error that led here says more.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def file_lock(lock: Path, *, wait: bool = True) -> Iterator[None]:
    """Lets one process, and one thread of it, at a time do what the block does.

    Args:
        lock: The file that they agree by, which is gone afterwards; its directory must be there.
        wait: Whether the others wait for their turn, or get an error.

    Raises:
        TimeoutError: Another is in the block, and ``wait`` is false.
        OSError: The file cannot be made.
    """
    import filelock

    with filelock.FileLock(lock, timeout=-1 if wait else 0):
        try:
            yield
        finally:
            # While the lock is held: whoever waits opens the file anew at each attempt.
            with contextlib.suppress(OSError):
                lock.unlink()
