"""The site: pages in Markdown, and the reference from the docstrings."""

import re

import ppl_vae

project = "ppl_vae"
author = "The ppl_vae developers"
release = ppl_vae.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "notes")]
napoleon_use_ivar = True

html_theme = "furo"
html_title = "ppl_vae"
html_show_sphinx = html_show_copyright = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

_SECTION = re.compile(r"\s*[A-Z]\w+:$")
_CLAIM = re.compile(r"^(\s*)(Estimand|Gradient|Bias|Needs|Cost|Source): (?=\S)")
_ITEM = re.compile(r"\s*([-*•]|\d+\.|>>>|\.\.) ?")
# What is code keeps its stars and bars; elsewhere they are no markup: (*batch, dim), q*, |w|.
_CODE = re.compile(r"(``.*?``|`.*?`)")
_MARKS = re.compile(r"(?<![*|])([*|])(?![*|])(?<!^\*)")


def _escaped(line):
    parts = _CODE.split(line)
    parts[::2] = [_MARKS.sub(r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def _show_formulas(_app, _what, _name, _obj, _options, lines):
    """Show formulas, which are indented after a blank line, with their line breaks.

    And an estimator's claims as fields.
    """
    found, above, previous, formula = [], 0, "", None
    for place, line in enumerate(lines):
        depth = len(line) - len(line.lstrip())
        if formula is not None and line.strip() and depth < formula:
            formula = None
        starts = place and not lines[place - 1].strip() and line.strip() and depth >= above + 4
        prose = _SECTION.match(previous) or _ITEM.match(line) or _ITEM.match(previous)
        if formula is None and starts and not prose:
            found += [f"{' ' * above}.. code-block:: text", ""]
            formula = depth
        found.append(line if formula is not None else _CLAIM.sub(r"\1:\2: ", _escaped(line)))
        if line.strip() and formula is None:
            above, previous = depth, line
    lines[:] = found


def setup(app):
    """Let docstrings be read by what napoleon knows, after their formulas are marked."""
    app.connect("autodoc-process-docstring", _show_formulas, priority=100)
