"""How Sphinx builds this documentation: ``sphinx-build -W -n -b html docs docs/_build/html``. No network is needed."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
from pathlib import Path
from typing import Any

import sphinx_gallery.sorting
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

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
]
exclude_patterns = ["_build", "tutorials/*.py", "tutorials/*.ipynb"]
html_theme = "furo"
html_title = f"musgenre {version}"
html_static_path = ["_static"]
html_css_files = ["musgenre.css"]
html_show_sphinx = False
pygments_style = "default"

# MyST
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The API reference. Types stand in annotations only; "Shape" is a section of the project's own.
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape"]
napoleon_use_ivar = True
add_module_names = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 88
autodoc_type_aliases = {"AudioSource": "musgenre.audio.AudioSource"}

# The build reaches no network, so what other libraries define is named and not linked.
nitpick_ignore_regex = [
    ("py:.*", r"(abc|collections|collections\.abc|numpy|os|pathlib|torch|typing)\..*"),
    ("py:.*", r"matplotlib\.axes\..*"),
    ("py:data", "Ellipsis"),
]
nitpick_ignore = [
    # Attributes that are described in a list, or with the constructor's parameters, have no place to link to.
    *[("py:attr", name) for name in ("expects", "labels", "missing", "out_features", "sample_rate")],
    # Type variables, and types that are imported for type checkers only.
    *[("py:class", name) for name in ("musgenre.registry.F", "musgenre.registry.T", "musgenre.specs.Spec")],
    *[("py:class", name) for name in ("Axes", "npt.ArrayLike")],
]

# The tutorials: every script of examples/ is run.
sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["tutorials"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": sphinx_gallery.sorting.FileNameSortKey,
    "abort_on_example_error": True,
    "plot_gallery": True,
    "backreferences_dir": None,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "copyfile_regex": "",
    "image_scrapers": ("matplotlib",),
}
suppress_warnings = ["config.cache"]

# The prompts of a shell or of Python are no part of what is copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# The examples in docstrings see what their modules see.
doctest_global_setup = """
from musgenre.functional import *
from musgenre.transforms.augment import *
from musgenre.transforms.shape import *
from musgenre.transforms.spectral import *
from musgenre.features.base import *
from musgenre.features.spectral import *
from musgenre.backbones.base import *
from musgenre.backbones.vgg import *
from musgenre.datasets.base import *
from musgenre.datasets.gtzan import *
from musgenre.datasets.splits import *
from musgenre.network import *
from musgenre.classifier import *
from musgenre.metrics import *
from musgenre.plotting import *
from musgenre.registry import *
from musgenre.specs import *
from musgenre.audio import *
"""


def short_names() -> dict[str, str]:
    """Reads from the stubs where each lazily loaded name is defined: ``musgenre.finetune`` is in ``musgenre.finetuning``."""
    spec = importlib.util.find_spec("musgenre")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    names = {}
    for stub in root.rglob("__init__.pyi"):
        package = ".".join(["musgenre", *stub.parent.relative_to(root).parts])
        for line in ast.parse(stub.read_text(encoding="utf-8")).body:
            if isinstance(line, ast.ImportFrom) and line.module:
                names |= {f"{package}.{name.asname}": f"{package}.{line.module}.{name.name}" for name in line.names}
    return names


SHORT_NAMES = short_names()


def resolve_short_name(app: Sphinx, env: Any, node: pending_xref, contnode: nodes.Node) -> nodes.Node | None:
    """Links a name that is written short, as programs write it, to where it is defined."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    module = node.get("py:module")
    found = [SHORT_NAMES[name] for name in (target, f"{module}.{target}") if name in SHORT_NAMES]
    if module is None:  # a table of summaries, which has lost the module that its texts come from
        found += [name for name in domain.objects if name.endswith(f".{target}")]
    if not found:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], found[0], node, contnode)


def strip_front_matter(_app: Sphinx, _path: Path, _parent: str, content: list[str]) -> None:
    """Takes off the block of metadata with which a model card begins."""
    content[0] = re.sub(r"\A---\n.*?\n---\n", "", content[0], flags=re.DOTALL)


def test_python_blocks(app: Sphinx, doctree: nodes.document) -> None:
    """Lets the doctest builder run the Python of a page that is written for other readers than Sphinx as well."""
    if app.env.docname == "contributing":
        for block in doctree.findall(nodes.literal_block):
            if block.get("language") == "python":
                block["testnodetype"] = "testcode"
                block["groups"] = ["default"]


def tidy_signature(_app: Sphinx, *about: Any) -> tuple[str | None, str | None]:
    """Writes the default of a dataclass's field, and an alias within a union, so that Sphinx can parse them."""
    signature, returned = about[-2:]
    if signature:
        signature = re.sub(r"TypeAliasForwardRef\('([\w.]+)'\)", r"~\1", signature.replace("<factory>", "..."))
    return signature, returned


def setup(app: Sphinx) -> None:
    """Connects the functions above."""
    app.connect("autodoc-process-signature", tidy_signature)
    app.connect("missing-reference", resolve_short_name)
    app.connect("include-read", strip_front_matter)
    app.connect("doctree-read", test_python_blocks)
