"""Sphinx configuration: ``sphinx-build -W -n -b html docs docs/_build/html``. No network access is needed."""

from __future__ import annotations

import doctest
import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

import sphinx_gallery.sorting
from docutils import nodes
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "musgenre"
author = "The musgenre authors"
copyright = author
release = version = importlib.metadata.version("musgenre")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "layers",
    "lazy_names",
]
exclude_patterns = ["_build", "_ext", "tutorials/*.py", "tutorials/*.ipynb"]
html_theme = "furo"
html_title = f"musgenre {version}"
html_static_path = ["_static"]
html_css_files = ["musgenre.css"]
html_show_sphinx = False
pygments_style = "default"

# MyST
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# API reference. Types are given in annotations only; "Returns" is prose, and "Shape" a custom section.
autodoc_member_order = "bysource"
# Methods that scikit-learn generates, whose docstrings refer to its own documentation.
_REQUESTS = [f"set_{method}_request" for method in ("fit", "predict", "predict_proba", "score", "transform")]
autodoc_default_options = {"members": True, "exclude-members": ",".join(_REQUESTS)}
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape", "Returns"]
napoleon_use_ivar = True
add_module_names = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 88
autodoc_type_aliases = {"AudioSource": "musgenre.audio.windows.AudioSource"}

# Names of other libraries are not linked, because the build has no network access.
nitpick_ignore_regex = [
    ("py:.*", r"(abc|collections|collections\.abc|concurrent|numpy|os|pathlib|torch|typing)\..*"),
    ("py:.*", r"matplotlib\.axes\..*"),
    ("py:data", "Ellipsis"),
]
nitpick_ignore = [
    # Attributes documented in a list or as parameters of the constructor have no link target.
    *[
        ("py:attr", name)
        for name in ("expects", "labels", "missing", "names", "named_weights", "out_features", "sample_rate")
    ],
    # Type variables and types imported for type checkers only.
    *[
        ("py:class", name)
        for name in ("musgenre.core.registry.F", "musgenre.core.registry.T", "musgenre.core.config.Spec")
    ],
    *[
        ("py:class", name)
        for name in (
            "musgenre.core.threads.R",
            "musgenre.core.threads.T",
            "musgenre.models.inference.Network",
            "musgenre.models.inference.R",
        )
    ],
    *[("py:class", name) for name in ("Axes", "npt.ArrayLike", "Path", "Projection", "Self")],
    # Internal.
    ("py:class", "musgenre.audio.windows.ClosingIterator"),
    # scikit-learn's.
    ("py:exc", "NotFittedError"),
    # The standard library's, by its short name.
    ("py:exc", "CancelledError"),
    # Lightning's and rich's.
    *[("py:class", name) for name in ("Callback", "Group", "Logger", "Strategy", "Trainer")],
]

# The tutorials: every script of examples/ is run.
sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["tutorials"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": sphinx_gallery.sorting.FileNameSortKey,
    "abort_on_example_error": True,
    # Run all examples even if unchanged, except for the doctest builder.
    "run_stale_examples": "doctest" not in sys.argv,
    "plot_gallery": True,
    "backreferences_dir": None,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "copyfile_regex": "",
    "image_scrapers": ("matplotlib",),
}
suppress_warnings = ["config.cache"]

# Output is compared completely; "..." matches any text.
doctest_default_flags = doctest.ELLIPSIS
doctest_global_setup = """
import importlib

def as_in(module):
    # Examples in docstrings have access to the names of their module.
    found = vars(importlib.import_module(module))
    globals().update({name: value for name, value in found.items() if not name.startswith("__")})
"""

# Prompts are not copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def strip_front_matter(_app: Sphinx, _path: Path, _parent: str, content: list[str]) -> None:
    """Remove the metadata block at the start of a model card."""
    content[0] = re.sub(r"\A---\n.*?\n---\n", "", content[0], flags=re.DOTALL)


def test_python_blocks(app: Sphinx, doctree: nodes.document) -> None:
    """Let the doctest builder run the Python blocks of CONTRIBUTING.md, which has no directives."""
    if app.env.docname == "contributing":
        for block in doctree.findall(nodes.literal_block):
            if block.get("language") == "python":
                block["testnodetype"] = "testcode"
                block["groups"] = ["default"]


# Inserted before the docstring of a constant or a property, so that napoleon does not parse a type.
UNTYPED = ["..", ""]


def untyped(_app: Sphinx, *about: Any) -> None:
    """Prevent napoleon from parsing the words before a colon as the type of a constant or a property."""
    what, *_, lines = about
    if what in ("attribute", "data", "property"):
        lines[:0] = UNTYPED


def untouched(_app: Sphinx, *about: Any) -> None:
    """Remove the lines inserted by :func:`untyped`."""
    *_, lines = about
    if lines[:2] == UNTYPED:
        del lines[:2]


def tidy_signature(_app: Sphinx, *about: Any) -> tuple[str | None, str | None]:
    """Rewrite default factories of dataclasses and aliases in unions, so that Sphinx can parse them."""
    signature, returned = about[-2:]
    if signature:
        signature = re.sub(r"TypeAliasForwardRef\('([\w.]+)'\)", r"~\1", signature.replace("<factory>", "..."))
    return signature, returned


def setup(app: Sphinx) -> None:
    """Register the functions above."""
    app.connect("autodoc-process-docstring", untyped, priority=400)
    app.connect("autodoc-process-docstring", untouched, priority=600)
    app.connect("autodoc-process-signature", tidy_signature)
    app.connect("include-read", strip_front_matter)
    app.connect("doctree-read", test_python_blocks)
