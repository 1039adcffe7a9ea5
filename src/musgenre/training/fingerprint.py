"""Digest of a module's code, options and weights, for the keys of the embedding cache."""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import functools
import hashlib
import inspect
import itertools
import logging
import pickle
import secrets
import sys
import types
import weakref
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_logger = logging.getLogger(__name__)

_MODULE_INTERNALS = frozenset(vars(nn.Module()))
# Code of these packages is identified by its name; the key of a cache holds their versions where they matter.
_KNOWN_PACKAGES = frozenset({*sys.stdlib_module_names, "numpy", "torch"})
_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, type(...), PurePath),
    *(enum.Enum, np.dtype, np.generic, torch.dtype, torch.device, torch.layout),
)

_tokens: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def fingerprint(module: nn.Module) -> str:
    """Return a digest of a module: the code and options of its parts, its parameters and buffers.

    Arrays and tensors count by dtype, shape and bytes, containers by their items, classes and functions by their
    source. Classes of PyTorch, NumPy and the standard library count by their names. Hooks, and the constants and
    functions that the code looks up in its module, are not part of the digest.

    Where the source is not available, as of a class that is defined in a notebook, the digest holds a random token
    instead: it is the same for the same class in this process, and differs in any other process.

    Args:
        module: The module; it is not changed.

    Example:
        >>> from torch import nn
        >>> fingerprint(nn.ReLU()) == fingerprint(nn.ReLU()), fingerprint(nn.ReLU()) == fingerprint(nn.ELU())
        (True, False)
    """
    digest = _Digest()
    digest.add(module)
    return digest.hexdigest()


class _Digest:
    """Accumulates the content of nested values; an object that occurs again is written as a reference."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}  # with the objects, so that no id is used twice

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def add(self, value: Any) -> None:
        self._write(type(value).__qualname__)
        if isinstance(value, _PLAIN):
            self._write(repr(value))
        elif isinstance(value, tuple):
            self._write(str(len(value)))
            self._add_all(value)
        elif id(value) in self._seen:
            self._write(f"seen {self._seen[id(value)][0]}")
        else:
            self._seen[id(value)] = (len(self._seen), value)
            self._add_object(value)

    def _add_object(self, value: Any) -> None:
        if isinstance(value, nn.Module):
            self._add_module(value)
        elif isinstance(value, Tensor):
            array = value.detach().to_dense().cpu().contiguous().flatten().view(torch.uint8).numpy()
            self._write(f"{value.dtype} {tuple(value.shape)}", array.data)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self._write(f"{value.dtype.descr} {value.shape}", np.ascontiguousarray(value).tobytes())
        elif isinstance(value, list | np.ndarray):
            self._write(str(len(value)))
            self._add_all(value)
        elif isinstance(value, dict):
            self._write(str(len(value)))
            self._add_all(itertools.chain.from_iterable(value.items()))
        elif isinstance(value, set | frozenset):
            self._write(*sorted(_digest_of(item) for item in value))
        elif isinstance(value, functools.partial):
            self._add_all((value.func, value.args, value.keywords))
        elif isinstance(value, types.MethodType):
            self._add_all((value.__func__, value.__self__))
        elif isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, types.BuiltinFunctionType | types.ModuleType | np.ufunc):
            self._write(_name(value))
        else:
            self._add_reduced(value)

    def _add_module(self, module: nn.Module) -> None:
        for name, part in module.named_modules(remove_duplicate=False):
            self._write(name)
            self.add(type(part))
            for option in sorted(vars(part).keys() - _MODULE_INTERNALS):
                self._write(option)
                self.add(vars(part)[option])
        tensors = (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
        for name, tensor in itertools.chain(*tensors):
            self._write(name)
            self.add(tensor)

    def _add_reduced(self, value: Any) -> None:
        try:
            # The class and state that pickle would write.
            reducer = copyreg.dispatch_table.get(type(value))
            reduced = reducer(value) if reducer else value.__reduce_ex__(2)
        except (TypeError, RuntimeError, pickle.PickleError):
            self._write(_process_token(value))
            return
        parts = [reduced] if isinstance(reduced, str) else reduced
        self._add_all(list(part) if isinstance(part, Iterator) else part for part in parts)

    def _add_class(self, kind: type) -> None:
        for base in kind.__mro__:
            self._write(f"{base.__module__}.{base.__qualname__}")
            if _package(base) in _KNOWN_PACKAGES:
                continue
            if not self._add_source(base):
                continue
            for name, member in vars(base).items():
                function = getattr(member, "__func__", member)  # of a static method or a class method
                generated = dataclasses.is_dataclass(base) and name.startswith("__")
                if isinstance(function, types.FunctionType) and not generated:
                    self.add(function)

    def _add_function(self, function: types.FunctionType) -> None:
        self._write(_name(function))
        if _package(function) in _KNOWN_PACKAGES or not self._add_source(function):
            return
        cells = [_content(cell) for cell in function.__closure__ or ()]
        self._add_all((function.__defaults__, function.__kwdefaults__, *cells))

    def _add_source(self, code: type | types.FunctionType) -> bool:
        """Add the source of a class or function, or its token; return whether the source is available."""
        try:
            self._write(inspect.getsource(code))
        except (OSError, TypeError):
            self._write(_process_token(code))
            return False
        return True

    def _add_all(self, values: Any) -> None:
        for value in values:
            self.add(value)

    def _write(self, *parts: str | bytes | memoryview) -> None:
        for part in parts:
            content = part.encode() if isinstance(part, str) else part
            self._hash.update(b"%d:" % memoryview(content).nbytes)  # so that no two sequences of parts are alike
            self._hash.update(content)


def _digest_of(value: Any) -> str:
    digest = _Digest()
    digest.add(value)
    return digest.hexdigest()


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"


def _package(value: Any) -> str:
    return str(value.__module__ or "builtins").partition(".")[0]


def _process_token(value: Any) -> str:
    """Return a random token for an object in this process; a new one for each call if it cannot be stored."""
    try:
        if value not in _tokens:
            _logger.warning(
                "The source of %r is not available: its embeddings are cached for this process only.",
                getattr(value, "__qualname__", type(value).__qualname__),
            )
        return _tokens.setdefault(value, secrets.token_hex())
    except TypeError:  # not hashable, or without weak references
        return secrets.token_hex()
