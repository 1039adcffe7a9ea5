"""Document lazily loaded names: ``musgenre.datasets.GTZAN`` is defined in ``musgenre.datasets.gtzan``.

- ``.. public-names:: musgenre.datasets`` documents all public names of a package, constants last, after a table of
  summaries.
- Cross-references to short names are resolved to the defining modules.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def read_stubs() -> dict[str, str]:
    """Map each lazily loaded name to its full name, in the order of the stubs."""
    spec = importlib.util.find_spec("musgenre")
    if spec is None or spec.origin is None:
        raise ImportError("musgenre is not installed.")
    root = Path(spec.origin).parent
    names = {}
    for stub in sorted(root.rglob("__init__.pyi")):
        package = ".".join(["musgenre", *stub.parent.relative_to(root).parts])
        for line in ast.parse(stub.read_text(encoding="utf-8")).body:
            if isinstance(line, ast.ImportFrom) and line.module:
                names |= {f"{package}.{name.asname}": f"{package}.{line.module}.{name.name}" for name in line.names}
    return names


FULL_NAMES = read_stubs()


class PublicNames(SphinxDirective):
    """The directive ``.. public-names:: PACKAGE``, with options of autodoc."""

    required_arguments = 1
    option_spec: ClassVar = {"no-members": directives.flag, "show-inheritance": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Return the table of summaries and one entry per name."""
        package = self.arguments[0]
        names = [full for short, full in FULL_NAMES.items() if short.rpartition(".")[0] == package]
        names.sort(key=lambda full: not callable(_load(full)))  # constants last
        lines = [".. testsetup::", "", *self._test_setup(names), ""]
        lines += [".. autosummary::", "   :nosignatures:", "", *[f"   ~{full}" for full in names], ""]
        for full in names:
            lines += [*self._entry(full), ""]
        self.env.note_dependency(str(Path(__file__)))
        return self.parse_text_to_nodes("\n".join(lines))

    def _test_setup(self, names: list[str]) -> list[str]:
        return [f'   as_in("{module}")' for module in dict.fromkeys(full.rpartition(".")[0] for full in names)]

    def _entry(self, full: str) -> list[str]:
        found = _load(full)
        if inspect.isclass(found):
            kind = "exception" if issubclass(found, BaseException) else "class"
            return [f".. auto{kind}:: {full}", *[f"   :{option}:" for option in self.options]]
        if inspect.ismethod(found):  # Registry.register, bound to a registry
            registry = found.__self__
            return [
                f".. py:decorator:: {full.rpartition('.')[2]}(name)",
                f"   :module: {full.rpartition('.')[0]}",
                "",
                f"   Registers a factory of a {registry.kind} under a name, in this process. See",
                "   :py:meth:`Registry.register <musgenre.core.registry.Registry.register>`.",
            ]
        if inspect.isfunction(found):
            return [f".. autofunction:: {full}"]
        return [f".. autodata:: {full}", "   :no-value:"]


def resolve_short_name(app: Sphinx, env: Any, *unresolved: Any) -> nodes.Node | None:
    """Resolve a short name to its full name."""
    node, contnode = unresolved
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    target, module = node["reftarget"], node.get("py:module")
    scopes = [target, *(f"{package}.{target}" for package in _ancestors(module or ""))]
    found = [full for full in map(_full_name, scopes) if full]
    if module is None:  # in a table of summaries, which has no current module
        found += [name for name in domain.objects if name.endswith(f".{target}")]
    if not found:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], found[0], node, contnode)


def _load(full: str) -> Any:
    module, _, name = full.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _ancestors(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _full_name(name: str) -> str | None:
    """Return the full name of a name or of a member, or ``None``."""
    owner, _, member = name.rpartition(".")
    return FULL_NAMES.get(name) or (f"{FULL_NAMES[owner]}.{member}" if owner in FULL_NAMES else None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive and the resolver."""
    app.add_directive("public-names", PublicNames)
    app.connect("missing-reference", resolve_short_name)
    return {"parallel_read_safe": True}
