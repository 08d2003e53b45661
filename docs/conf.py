"""How Sphinx builds the documentation; ``python -m scripts.make_docs`` calls it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "mtrl"
author = copyright = "the mtrl-suite contributors"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["generated/**", "methods/ideas/**", "examples/**"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "separated"
default_role = "code"
napoleon_use_rtype = False
# Docstrings name types in words, as prose; none of them is a link.
nitpicky = False

html_theme = "furo"
html_title = "mtrl"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"$^",  # tests run the examples; the build only renders them
    "image_scrapers": (),
    "reset_modules": (),
    "show_memory": False,
    "download_all_examples": False,
    "min_reported_time": 1e9,
    "within_subsection_order": "FileNameSortKey",
    "write_computation_times": False,
}
