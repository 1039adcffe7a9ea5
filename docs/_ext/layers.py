"""Directives for the architecture page, generated from the code.

- ``{layers}`` draws the layers of the import contract in ``pyproject.toml``.
- ``{package-tree}`` lists every module with the first sentence of its docstring, in the order of the layers.

``python docs/_ext/layers.py`` prints the tree.
"""

from __future__ import annotations

import ast
import html
import importlib.util
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
WIDTH, HEIGHT, GAP, MARGIN = 720, 34, 10, 28


def read_layers(project: Path = PROJECT) -> list[list[str]]:
    """Return the packages of each layer, from top to bottom, without the prefix ``musgenre.``."""
    contracts = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.removeprefix("musgenre.") for name in re.split(r"\s*[|:]\s*", layer)] for layer in layers]


def package_root() -> Path:
    """Return the directory of the installed package, without importing its modules."""
    spec = importlib.util.find_spec("musgenre")
    if spec is None or spec.origin is None:
        raise ImportError("musgenre is not installed.")
    return Path(spec.origin).parent


def summary(path: Path) -> str:
    """Return the first sentence of a module's docstring as plain text."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = re.match(r".*?[.:](?=\s|$)", paragraph)
    plain = re.sub(r":\w+:`~?([^`]+)`", r"\1", (sentence[0] if sentence else paragraph).replace("``", ""))
    return plain.rstrip(".:")


def package_tree() -> str:
    """Return the package as an indented tree: one line per module, in the order of the layers."""
    root = package_root()
    lines = [("musgenre/", summary(root / "__init__.py"))]
    for package in (package for layer in read_layers() for package in layer):
        lines.append((f"  {package}/", summary(root / package / "__init__.py")))
        modules = sorted(path for path in (root / package).rglob("*.py") if path.name != "__init__.py")
        lines += [(f"    {path.relative_to(root / package).as_posix()}", summary(path)) for path in modules]
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(f"{name:<{width}}{text}".rstrip() for name, text in lines)


def drawing(layers: list[list[str]]) -> str:
    """Return the layers as an SVG image in the text colour of the page."""
    total = len(layers) * (HEIGHT + GAP) - GAP
    shapes = [
        f'<path d="M12 0V{total - 8}m-6 -8l6 12l6 -12" fill="none" stroke="currentColor" stroke-width="2"/>',
    ]
    for row, packages in enumerate(layers):
        wide = (WIDTH - MARGIN - GAP * (len(packages) - 1)) / len(packages)
        for column, package in enumerate(packages):
            x, y = MARGIN + column * (wide + GAP), row * (HEIGHT + GAP)
            title = html.escape(summary(package_root() / package / "__init__.py"))
            shapes.append(
                f'<g><title>{title}</title><rect x="{x:.1f}" y="{y}" width="{wide:.1f}" '
                f'height="{HEIGHT}" rx="5" fill="none" stroke="currentColor" stroke-opacity="0.5"/>'
                f'<text x="{x + wide / 2:.1f}" y="{y + HEIGHT / 2 + 5}" text-anchor="middle" fill="currentColor" '
                f'font-family="monospace" font-size="14">{package}</text></g>'
            )
    label = "The layers of the package; imports point from top to bottom."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {WIDTH + 4} {total + 4}" role="img" '
        f'aria-label="{label}" style="max-width: 100%; width: {WIDTH}px">{"".join(shapes)}</svg>'
    )


class Layers(SphinxDirective):
    """The directive ``layers``."""

    def run(self) -> list[nodes.Node]:
        """Return the drawing."""
        self.env.note_dependency(str(PROJECT))
        return [nodes.raw("", drawing(read_layers()), format="html")]


class PackageTree(SphinxDirective):
    """The directive ``package-tree``."""

    def run(self) -> list[nodes.Node]:
        """Return the tree as a literal block."""
        self.env.note_dependency(str(PROJECT))
        for path in package_root().rglob("*.py"):
            self.env.note_dependency(str(path))
        text = package_tree()
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("layers", Layers)
    app.add_directive("package-tree", PackageTree)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    sys.stdout.write(f"{package_tree()}\n")
