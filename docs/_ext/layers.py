"""``{layers}`` draws the layers of the import contract in ``pyproject.toml``, and says what each module is for.

Both come from what is checked and from the modules themselves, so that neither can be out of date.
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
    """Returns the layers from the top down, each with its modules, without the package's name before them."""
    contracts = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.removeprefix("musgenre.") for name in re.split(r"\s*[|:]\s*", layer)] for layer in layers]


def summary(module: str) -> str:
    """Returns the first sentence of a module's docstring; imports nothing but the package."""
    spec = importlib.util.find_spec(f"musgenre.{module}")
    if spec is None or spec.origin is None:
        raise ImportError(f"pyproject.toml names a layer musgenre.{module}, which there is not.")
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", first.replace("``", "`"))


def drawing(layers: list[list[str]]) -> str:
    """Returns the layers as an SVG picture, in the page's own colours."""
    total = len(layers) * (HEIGHT + GAP) - GAP
    shapes = [
        f'<path d="M12 0V{total - 8}m-6 -8l6 12l6 -12" fill="none" stroke="currentColor" stroke-width="2"/>',
    ]
    for row, modules in enumerate(layers):
        wide = (WIDTH - MARGIN - GAP * (len(modules) - 1)) / len(modules)
        for place, module in enumerate(modules):
            x, y = MARGIN + place * (wide + GAP), row * (HEIGHT + GAP)
            shapes.append(
                f'<g><title>{html.escape(summary(module))}</title><rect x="{x:.1f}" y="{y}" width="{wide:.1f}" '
                f'height="{HEIGHT}" rx="5" fill="none" stroke="currentColor" stroke-opacity="0.5"/>'
                f'<text x="{x + wide / 2:.1f}" y="{y + HEIGHT / 2 + 5}" text-anchor="middle" fill="currentColor" '
                f'font-family="monospace" font-size="14">{module}</text></g>'
            )
    told = "The modules in layers; imports point from the top down."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {WIDTH + 4} {total + 4}" role="img" '
        f'aria-label="{told}" style="max-width: 100%; width: {WIDTH}px">{"".join(shapes)}</svg>'
    )


class Layers(SphinxDirective):
    """The directive."""

    def run(self) -> list[nodes.Node]:
        """Returns the picture and a table of what each module is for."""
        layers = read_layers()
        self.env.note_dependency(str(PROJECT))
        rows = [f"| `{module}` | {summary(module)} |" for modules in layers for module in modules]
        table = "\n".join(["| module | what it is |", "| --- | --- |", *rows])
        return [nodes.raw("", drawing(layers), format="html"), *self.parse_text_to_nodes(table)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the directive."""
    app.add_directive("layers", Layers)
    return {"parallel_read_safe": True}
