"""A folder of results as one self-contained HTML page."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pandas as pd
from jinja2 import Environment

from ppl_vae import checks

MOST_ROWS = 200
SETTINGS = ("config.json", "evaluation.json")

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem;
         padding: 0 1rem; color: #222; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
  th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; }
  th:first-child, td:first-child { text-align: left; }
  img { max-width: 100%; } pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}
<h2>{{ section.name }}</h2>
{% if section.kind == ".csv" %}<div class="wide">{{ section.content | safe }}</div>
{% elif section.kind == ".png" %}
<img alt="{{ section.name }}" src="data:image/png;base64,{{ section.content }}">
{% else %}<pre>{{ section.content }}</pre>
{% endif %}
{% endfor %}
</body>
</html>
"""


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` into a folder, from the tables, pictures and settings in it.

    The page holds everything in itself: every ``*.csv`` as a table (its first 200 rows), every
    ``*.png`` as a picture, ``config.json`` and ``evaluation.json`` as text, of the folder and of
    the folders in it.

    Args:
        folder: a run folder of `fit`, or what `ElboComparison.save` filled.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: there is no such folder, or nothing in it that a page could show.
    """
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
    sections = [
        _section(path, folder)
        for suffix in (".csv", ".png", ".json")
        for path in files
        if path.suffix == suffix and (suffix != ".json" or path.name in SETTINGS)
    ]
    if not sections:
        raise FileNotFoundError(
            checks.message(
                f"a folder with tables or pictures, {folder}",
                "one without" if folder.is_dir() else "no folder",
                "Name the folder that `ppl-vae train --out`, `evaluate` or `compare --out` wrote.",
            )
        )
    page = Environment(autoescape=True).from_string(PAGE)
    target = folder / "report.html"
    target.write_text(page.render(title=folder.resolve().name, sections=sections))
    return target


def _section(path: Path, folder: Path) -> dict[str, str]:
    name = str(path.relative_to(folder).with_suffix("")).replace("_", " ")
    if path.suffix == ".csv":
        table = pd.read_csv(path).dropna(axis="columns", how="all")
        if len(table) > MOST_ROWS:
            name = f"{name} (the first {MOST_ROWS} of {len(table)} rows)"
        content = table.head(MOST_ROWS).to_html(
            index=False, border=0, float_format=lambda v: f"{v:.6g}", na_rep=""
        )
    elif path.suffix == ".png":
        content = base64.b64encode(path.read_bytes()).decode()
    else:
        content = json.dumps(json.loads(path.read_text()), indent=2)
    return {"name": name, "kind": path.suffix, "content": content}
