from __future__ import annotations

import ast
import importlib.metadata
import inspect
import warnings
from pathlib import Path

import pytest

import musgenre
from musgenre.core.deprecation import deprecated, renamed
from musgenre.core.errors import ParameterError

SOURCES = sorted(Path(musgenre.__file__).parent.rglob("*.py"))


@deprecated(since="0.2", until="0.4", instead="predict()")
def guess(song: str, *, times: int = 1) -> str:
    """Guesses."""
    return song * times


@renamed("rate", "sample_rate", since="0.2", until="0.4")
def seconds(samples: int, *, sample_rate: int = 2) -> float:
    return samples / sample_rate


class Old:
    @deprecated(since="0.2", until="0.4", instead="new()")
    def method(self):
        return self


def test_what_is_deprecated_works_and_warns_where_it_is_called():
    with pytest.warns(
        DeprecationWarning, match=r"^guess is deprecated since musgenre 0\.2 .* in 0\.4: use predict"
    ) as said:
        assert guess("a", times=2) == "aa"
    assert said[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=r"^Old\.method is deprecated"):
        assert isinstance(Old().method(), Old)


def test_signature_and_documentation_stay():
    assert list(inspect.signature(guess).parameters) == ["song", "times"]
    assert guess.__doc__.startswith("Guesses.\n")
    assert ".. deprecated:: 0.2\n   Use predict(); removed in 0.4." in guess.__doc__


def test_an_option_under_its_old_name():
    with pytest.warns(DeprecationWarning, match=r"seconds\(rate=\) is deprecated .* use sample_rate=") as said:
        assert seconds(8, rate=4) == 2
    assert said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seconds(8, sample_rate=4) == 2
        assert seconds(8) == 4
    with pytest.raises(ParameterError, match="give 'sample_rate' alone"):
        seconds(8, rate=4, sample_rate=4)


def _uses(text: str) -> list[tuple[str, str]]:
    """``(since, until)`` of each use of the two decorators in a source file."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("deprecated", "renamed")]
    return [
        tuple(
            ast.literal_eval(next(word.value for word in call.keywords if word.arg == key))
            for key in ("since", "until")
        )
        for call in named
    ]


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")[:2]))


def overdue(text: str, *, now: str) -> list[tuple[str, str]]:
    """The uses whose time is over, or whose warning comes less than one minor version before the end."""
    return [
        (since, until)
        for since, until in _uses(text)
        if _version(until) <= _version(now) or _version(until) <= _version(since)
    ]


def test_nothing_outlives_its_end():
    now = importlib.metadata.version("musgenre")
    assert {path.name: found for path in SOURCES if (found := overdue(path.read_text(), now=now))} == {}


def test_what_is_overdue_is_found():
    text = "@deprecated(since='0.2', until='0.4', instead='x')\ndef f(): ...\n"
    assert overdue(text, now="0.3.1") == []
    assert overdue(text, now="0.4.0") == [("0.2", "0.4")]
    assert overdue("renamed('a', 'b', since='0.2', until='0.2')", now="0.1") == [("0.2", "0.2")]
