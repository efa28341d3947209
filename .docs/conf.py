"""Configuration of Sphinx; the sources come from stage.py."""

import os
import sys
import warnings
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from shape_models import __version__  # noqa: E402

project = "shape-models"
author = "the authors of shape-models"
project_copyright = "the authors of shape-models, BSD 3-clause licence"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["files"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
autosummary_generate = False
autodoc_typehints = "none"  # the docstrings say them, with their shapes
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
default_role = "py:obj"  # a name in backticks is a link where there is such a name
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries = False

html_theme = "furo"
html_title = f"shape-models {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = [os.environ["DOCS_EXTRA"]] if "DOCS_EXTRA" in os.environ else []
html_copy_source = False
html_show_sphinx = False
templates_path = ["templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/versions.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#00667a", "color-brand-content": "#00667a"},
    "dark_css_variables": {"color-brand-primary": "#4fc3d5", "color-brand-content": "#4fc3d5"},
}
warnings.filterwarnings("ignore", category=DeprecationWarning, module="sphinx")


def _math(self, node):
    """Write a formula as MathML, which browsers draw without a script."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    self.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def _skip(app, what, name, thing, skip, options):
    """Leave out what scikit-learn adds to every estimator for its metadata."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app):
    """Register the formulas, and what the reference leaves out."""
    app.connect("autodoc-skip-member", _skip)
    app.add_node(nodes.math, override=True, html=(_math, None))
    app.add_node(nodes.math_block, override=True, html=(_math, None))
