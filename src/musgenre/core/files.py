"""Atomic writes and locks between processes."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, and renames it to ``path`` if the block succeeds.

    If the block fails, ``path`` is unchanged and the temporary file is removed. Several processes may write one path
    at the same time: the last one wins, and no reader sees a partial file.

    Args:
        path: The file to write; its directory must exist.

    Raises:
        OSError: The file cannot be renamed. Errors of the block are passed on.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     path = Path(directory) / "notes.txt"
        ...     with atomic_write(path) as partial:
        ...         _ = partial.write_text("do re mi")
        ...     path.read_text(), len(list(Path(directory).iterdir()))
        ('do re mi', 1)
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        # If this fails as well (the directory is gone or read-only), the first error is more informative.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds an exclusive lock between processes, and between threads of one process, during the block.

    Args:
        path: The lock file; its directory must exist. It is removed afterwards.
        wait: Whether to wait for the lock if it is held, rather than to raise.

    Raises:
        TimeoutError: The lock is held and ``wait`` is false.
        OSError: The lock file cannot be created.
    """
    import filelock

    with filelock.FileLock(path, timeout=-1 if wait else 0):
        try:
            yield
        finally:
            # Removed while the lock is held: waiting processes open the file again at each attempt.
            with contextlib.suppress(OSError):
                path.unlink()
