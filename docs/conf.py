"""How Sphinx builds this documentation: ``sphinx-build -W -n -b html docs docs/_build/html``. No network is needed."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import warnings
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
    "sphinx_autodoc_typehints",
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
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints_format = "short"
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape"]
add_module_names = False
typehints_defaults = "comma"

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
