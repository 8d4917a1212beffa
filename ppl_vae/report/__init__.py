"""A folder of results, or several, as one self-contained HTML page.

`write_report` is the only door. It reads what `ElboComparison.save`, `Evaluation.save`, `fit` and
the command line wrote, and works nothing out that these have not: `folders` finds the results,
`files` reads them, `sections` puts them in order, `side_by_side` sets runs beside each other, and
``page.html.j2`` lays out the `blocks`.
"""

from ppl_vae.report.page import write_report

__all__ = ["write_report"]
