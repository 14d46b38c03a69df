"""How Sphinx makes a site of the documents: `make docs`.

The source folder is the repository, so that the documents' links lead to the same files there, on
a forge and on the site.
"""

from atp import __version__

project = "atp"
author = "the maintainers of atp"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    *("README.md", "README.ja.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**"),
    *("benchmarks/RESULTS.md", "examples/smollm2/README.md"),
]
nitpicky = False

myst_enable_extensions = ["html_image"]
myst_heading_anchors = 3  # links may lead to a heading

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

smartquotes = False  # an option begins with two hyphens

html_theme = "furo"
html_title = "atp"
html_show_sphinx = False
html_copy_source = False
