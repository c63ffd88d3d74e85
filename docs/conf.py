"""Settings of Sphinx: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

import os
import pathlib
import sys

import matplotlib

# Keras and TensorFlow read these when they are imported.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Notebook pages show their figures; the directives draw into files.
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
matplotlib.use("Agg")

from keras_lr import __all__ as public
from keras_lr import __version__

here = pathlib.Path(__file__).parent
sys.path[:0] = [str(here / "_ext"), str(here)]

project = "keras_lr"
author = "The keras_lr authors"
copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "commands",
    "config_reference",
    "curves",
    "repository",
]
exclude_patterns = ["_build", "_ext", "_templates", "jupyter_execute"]
templates_path = ["_templates"]
default_role = "py:obj"
nitpicky = True
# Types in signatures, of other packages and of inner modules.
nitpick_ignore_regex = [("py:class", r"(?!keras_lr\.[A-Z]).*")]
# Types of fields that are aliases and not classes.
nitpick_ignore = [
    ("py:obj", name)
    for name in ("DecayFactor", "Length", "Positive", "PositiveRate", "Rate", "Timescale")
]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_in_temp = True
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autosummary_context = {"public": public}
autosummary_generate = True
autosummary_ignore_module_all = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False

plot_formats = [("svg", 100)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_include_source = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"keras_lr {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_copyright = False
