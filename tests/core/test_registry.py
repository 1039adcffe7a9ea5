from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from musgenre.core.errors import ConfigError, ParameterError, PluginError, UnknownNameError
from musgenre.core.registry import Entry, Registry, unknown_name

GROUP = "musgenre.tests.shapes"
GOOD = "def square(*, side, times=1): return side * side * times\n"
_numbers = itertools.count()


@pytest.fixture
def registry() -> Registry[float]:
    return Registry("shape", group=GROUP, builtins={"root": "math:sqrt", "ordered": "collections:OrderedDict"})


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Installs a distribution with entry points on the path and returns its module's name."""

    def make(source: str, *, project: str = "shape-pack", name: str = "square", attribute: str = "square") -> str:
        module = f"musgenre_tests_plugin_{next(_numbers)}"
        site = tmp_path / project
        info = site / f"{project.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}:{attribute}\n")
        monkeypatch.syspath_prepend(site)
        return module

    return make


class TestLookup:
    def test_built_in(self):
        registry = Registry("x", group=GROUP, builtins={"spec": "musgenre.core.registry:Entry"}, positional=3)
        assert registry.get("spec") is Entry
        assert registry.build("spec", {"name": "n", "origin": "o", "target": "t"}) == Entry("n", "o", "t")

    def test_decorator(self, registry):
        def square(*, side):
            return side * side

        assert registry.register("square")(square) is square
        assert registry.get("square") is square
        assert registry.build("square", {"side": 3}) == 9

    def test_entry_point(self, registry, install):
        install(GOOD)
        assert registry.build("square", {"side": 3, "times": 2}) == 18

    def test_entries_have_origin_and_target(self, registry, install):
        module = install(GOOD)

        @registry.register("mine")
        def mine(*, side):
            return side

        assert registry.entries() == [
            Entry("mine", "registered here", f"{__name__}:{mine.__qualname__}"),
            Entry("ordered", "musgenre", "collections:OrderedDict"),
            Entry("root", "musgenre", "math:sqrt"),
            Entry("square", "shape-pack", f"{module}:square"),
        ]
        assert registry.names() == ["mine", "ordered", "root", "square"]

    def test_contains(self, registry, install):
        install(GOOD)
        assert "square" in registry
        assert "root" in registry
        assert "circle" not in registry
        assert 3 not in registry

    def test_registries_are_independent(self, registry):
        registry.register("square")(lambda *, side: side)
        assert "square" not in Registry("shape", group=GROUP, builtins={})

    @pytest.mark.parametrize("nameless", [functools.partial(lambda *, side, times: side, times=2), None])
    def test_factories_without_qualname_are_listed(self, registry, nameless):
        class Maker:
            def __call__(self, *, side):
                return side

        registry.register("nameless")(nameless or Maker())
        entry = next(entry for entry in registry.entries() if entry.name == "nameless")
        assert entry.target.endswith("partial" if nameless else "Maker")
        assert registry.build("nameless", {"side": 2}) == 2

    def test_registered_factories_precede_entry_points(self, registry, install):
        install(GOOD)
        registry.register("square")(lambda *, side: "mine")
        assert registry.build("square", {"side": 1}) == "mine"
        assert registry.names().count("square") == 1


class TestListing:
    def test_imports_nothing(self, registry, install):
        module = install("raise RuntimeError('imported')\n")
        assert "square" in registry.names()
        assert "shape-pack" in {entry.origin for entry in registry.entries()}
        assert "square" in registry
        with pytest.raises(UnknownNameError):
            registry.get("another")
        assert module not in sys.modules

    def test_get_imports_only_the_requested_plugin(self, registry, install):
        other = install(GOOD, project="other-pack", name="other")
        requested = install(GOOD)
        registry.get("square")
        assert requested in sys.modules
        assert other not in sys.modules


class TestBrokenPlugins:
    def test_fails_only_when_requested(self, registry, install):
        module = install("raise RuntimeError('no GPU here')\n")
        registry.register("fine")(lambda *, side: side)
        assert registry.build("fine", {"side": 1}) == 1
        with pytest.raises(PluginError, match=rf"shape-pack \({module}:square\) failed to import") as caught:
            registry.get("square")
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert isinstance(caught.value, ImportError)
        assert "no GPU here" in str(caught.value)

    @pytest.mark.parametrize(
        ("source", "cause"),
        [
            ("import a_module_that_is_not_there\n", ModuleNotFoundError),
            ("", AttributeError),
            ("def f(:\n", SyntaxError),
        ],
    )
    def test_cause_is_chained(self, registry, install, source, cause):
        install(source)
        with pytest.raises(PluginError, match="failed to import") as caught:
            registry.get("square")
        assert isinstance(caught.value.__cause__, cause)

    def test_declared_by_two_packages(self, registry, install):
        first = install(GOOD, project="first-pack")
        second = install(GOOD, project="second-pack")
        with pytest.raises(PluginError, match=r"declared by .*: uninstall one") as caught:
            registry.get("square")
        assert "first-pack" in str(caught.value)
        assert "second-pack" in str(caught.value)
        assert not {first, second} & set(sys.modules)
        assert [entry.origin for entry in registry.entries() if entry.name == "square"] == ["first-pack", "second-pack"]

    def test_declared_under_a_built_in_name(self, registry, install):
        install(GOOD, name="root")
        with pytest.raises(PluginError, match="declared by musgenre and shape-pack"):
            registry.get("root")

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            ("square = 3\n", "must be a callable, not int"),
            ("def square(**options): pass\n", r"takes \*\*options"),
            ("def square(side): pass\n", "takes side: name every option as a keyword-only"),
            ("square = dict\n", "has no signature that can be inspected"),
        ],
    )
    def test_breaks_the_contract(self, registry, install, source, problem):
        install(source)
        with pytest.raises(PluginError, match=problem):
            registry.get("square")


class TestUnknownName:
    def test_suggestion_and_available_names(self, registry):
        registry.register("square")(lambda *, side: side)
        with pytest.raises(UnknownNameError) as caught:
            registry.get("squar")
        expected = "There is no shape 'squar'. Did you mean 'square'? Available: ordered, root, square."
        assert str(caught.value) == expected
        assert isinstance(caught.value, LookupError)

    def test_suggests_names_of_entry_points(self, registry, install):
        install(GOOD)
        with pytest.raises(UnknownNameError, match="Did you mean 'square'"):
            registry.build("Square", {"side": 1})

    def test_no_suggestion(self, registry):
        with pytest.raises(UnknownNameError) as caught:
            registry.get("zzz")
        assert "Did you mean" not in str(caught.value)

    def test_empty_registry(self):
        with pytest.raises(UnknownNameError, match="Available: none"):
            Registry("shape", group=GROUP, builtins={}).get("square")


class TestOptions:
    @pytest.fixture(autouse=True)
    def square(self, registry):
        @registry.register("square")
        def square(*, side, times=1):
            return side * side * times

    def test_default(self, registry):
        assert registry.build("square", {"side": 2}) == 4

    def test_misspelled(self, registry):
        with pytest.raises(ConfigError) as caught:
            registry.build("square", {"side": 2, "tims": 3})
        expected = "The shape 'square' got an unexpected option 'tims'. Did you mean 'times'? Available: side, times."
        assert str(caught.value) == expected

    def test_missing(self, registry):
        with pytest.raises(ConfigError, match="'square' requires the options side"):
            registry.build("square", {"times": 3})

    def test_accepts(self, registry):
        assert registry.accepts("square", "times")
        assert not registry.accepts("square", "weights")
        with pytest.raises(UnknownNameError):
            registry.accepts("circle", "times")


class TestRegistering:
    def test_registering_again_replaces(self, registry):
        registry.register("square")(lambda *, side: "first")
        registry.register("square")(lambda *, side: "second")
        assert registry.build("square", {"side": 1}) == "second"
        assert registry.names().count("square") == 1

    def test_an_invalid_factory_does_not_replace(self, registry):
        registry.register("square")(lambda *, side: "first")
        with pytest.raises(PluginError):
            registry.register("square")(lambda side: "second")
        assert registry.build("square", {"side": 1}) == "first"

    def test_built_in_names_are_reserved(self, registry):
        with pytest.raises(ParameterError, match="'root' is a built-in shape"):
            registry.register("root")

    @pytest.mark.parametrize("name", ["", " ", " square", "square\n"])
    def test_bad_name(self, registry, name):
        with pytest.raises(ParameterError, match="needs a name"):
            registry.register(name)

    @pytest.mark.parametrize(
        ("factory", "named"),
        [
            (lambda **options: options, r"\*\*options"),
            (lambda *sides: sides, r"\*sides"),
            (lambda side: side, "side"),
            (lambda side=1: side, "side=1"),
            (lambda *, side, **others: side, r"\*\*others"),
        ],
    )
    def test_only_keyword_only_parameters(self, registry, factory, named):
        with pytest.raises(PluginError, match=f"takes {named}: name every option"):
            registry.register("square")(factory)
        assert "square" not in registry

    def test_class_as_factory(self, registry):
        class Square:
            def __init__(self, *, side):
                self.side = side

        registry.register("square")(Square)
        assert registry.build("square", {"side": 3}).side == 3

    def test_allowed_positional_parameters(self):
        registry = Registry("dataset", group=GROUP, builtins={}, positional=1)
        registry.register("folder")(lambda root, *, split="train": (root, split))
        assert registry.get("folder")("here") == ("here", "train")
        for factory in (lambda root, split: 1, lambda **options: 1, lambda *roots: 1, lambda root, **options: 1):
            with pytest.raises(PluginError, match="name every option"):
                registry.register("other")(factory)


class TestTemporary:
    def test_is_registered_only_in_the_block(self, registry):
        with registry.temporary("square", lambda *, side: side * side):
            assert registry.build("square", {"side": 3}) == 9
        assert "square" not in registry

    def test_restores_the_previous_factory(self, registry):
        registry.register("square")(lambda *, side: "first")
        with registry.temporary("square", lambda *, side: "second"):
            assert registry.build("square", {"side": 1}) == "second"
        assert registry.build("square", {"side": 1}) == "first"

    def test_ends_with_an_exception_or_after_unregister(self, registry):
        with pytest.raises(ZeroDivisionError), registry.temporary("square", lambda *, side: side):
            raise ZeroDivisionError
        assert "square" not in registry
        with registry.temporary("square", lambda *, side: side):
            registry.unregister("square")
        assert "square" not in registry

    def test_checks_the_factory(self, registry):
        with pytest.raises(PluginError, match="name every option"), registry.temporary("square", lambda side: side):
            pass
        with pytest.raises(ParameterError, match="built-in"), registry.temporary("root", lambda *, side: side):
            pass
        assert registry.names() == ["ordered", "root"]


class TestFamilies:
    """Names of another library: ``get("polygon/4")`` calls the function under ``"polygon/"`` with ``"4"``."""

    SOURCE = (
        "from musgenre.core.registry import unknown_name\n"
        "known = ('3', '4')\n"
        "def find(sides):\n"
        "    if sides not in known: raise unknown_name(sides, kind='polygon', names=known)\n"
        "    def perimeter(*, side=1): return int(sides) * side\n"
        "    return perimeter\n"
    )

    @pytest.fixture
    def polygons(self, registry):
        @registry.register("polygon/")
        def polygon(sides):
            if sides == "0":
                raise ZeroDivisionError("no sides")
            return lambda *, side=1: int(sides) * side

        return registry

    def test_member(self, polygons):
        assert polygons.build("polygon/4", {"side": 3}) == 12
        assert polygons.accepts("polygon/5", "side")
        assert not polygons.accepts("polygon/5", "sides")

    def test_family_of_a_package(self, registry, install):
        module = install(self.SOURCE, name="polygon/", attribute="find")
        assert Entry("polygon/", "shape-pack", f"{module}:find") in registry.entries()
        assert module not in sys.modules
        assert registry.build("polygon/3", {"side": 2}) == 6
        with pytest.raises(UnknownNameError, match="no polygon '33'"):
            registry.get("polygon/33")

    def test_built_in(self):
        registry = Registry("x", group=GROUP, builtins={"root/": "math:sqrt", "text/": "ascii:ascii"})
        with pytest.raises(PluginError, match="'root/4' could not be created: TypeError"):
            registry.get("root/4")  # the square root of a string
        with pytest.raises(PluginError, match=r"'text/' of musgenre .ascii:ascii. failed to import"):
            registry.get("text/4")

    def test_listed_once_without_members(self, polygons):
        assert polygons.names() == ["ordered", "polygon/", "root"]
        assert "polygon/" in polygons

    def test_member_name_with_slashes(self, registry):
        registry.register("path/")(lambda rest: lambda *, side=1: rest)
        assert registry.build("path/a/b", {}) == "a/b"

    def test_an_exact_name_precedes_the_family(self, polygons):
        polygons.register("polygon/4")(lambda *, side: "mine")
        assert polygons.build("polygon/4", {"side": 1}) == "mine"
        assert polygons.build("polygon/5", {"side": 1}) == 5

    def test_the_family_itself_is_not_a_factory(self, polygons):
        with pytest.raises(UnknownNameError, match="'polygon/' is a family of names"):
            polygons.get("polygon/")

    def test_unknown_family(self, polygons):
        with pytest.raises(UnknownNameError, match=r"no shape 'polygone/4'.*Available: ordered, polygon/, root"):
            polygons.get("polygone/4")

    def test_options_of_members_are_checked(self, polygons):
        with pytest.raises(ConfigError, match="'polygon/4' got an unexpected option 'sides'"):
            polygons.build("polygon/4", {"sides": 3})

    def test_signatures_of_members_are_checked(self, registry):
        registry.register("any/")(lambda name: lambda **options: name)
        with pytest.raises(PluginError, match=r"'any/x' takes \*\*options"):
            registry.get("any/x")

    def test_errors_of_the_function_are_chained(self, polygons):
        with pytest.raises(PluginError, match=r"'polygon/0' could not be created.*no sides") as caught:
            polygons.get("polygon/0")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    @pytest.mark.parametrize(
        "function", [lambda: 1, lambda name, other: 1, lambda *, name: 1, lambda *names: 1, lambda **names: 1]
    )
    def test_a_family_function_takes_one_name(self, registry, function):
        with pytest.raises(PluginError, match="'any/' must take one argument, the name of a shape"):
            registry.register("any/")(function)
        assert "any/" not in registry

    def test_many_names_are_counted_instead_of_listed(self):
        few = str(unknown_name("x", kind="shape", names=["a", "b"]))
        many = str(unknown_name("n7000", kind="shape", names=[f"n{number}" for number in range(900)]))
        assert few == "There is no shape 'x'. Available: a, b."
        assert "Did you mean 'n700" in many
        assert many.endswith("900 are available.")
