"""A folder of results, or several, as one self-contained HTML page.

`write_report` is the only door. It reads what `ElboComparison.save`, `Evaluation.save`, `fit` and
the command line wrote, and works nothing out that these have not: `folders` finds the results,
`files` reads them, `contents` puts them in order and sets runs beside each other, and
``page.html.j2`` lays out the `blocks`.
"""

from ppl_vae.report.page import write_report

__all__ = ["write_report"]
