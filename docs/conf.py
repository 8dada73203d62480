"""The documentation site, made of these pages and of the docstrings: `python -m sphinx -W -b html docs build/site`."""

import tape

project, author, copyright = "tape", "the tape developers", ""
release = version = tape.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"tape {release}"
html_static_path = []
html_show_copyright = html_show_sphinx = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["architecture.svg"]
# The pages are Markdown first: they are read in an editor, by `python -m tape docs`, and here.
suppress_warnings = ["myst.header"]
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes stand in the docstring of their class
autodoc_typehints = "none"
autodoc_member_order = "alphabetical"
