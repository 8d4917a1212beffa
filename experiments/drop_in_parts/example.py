"""Runs one of Pyro's example scripts, with what each of its ``SVI`` objects did.

    python -m drop_in_parts.example SCRIPT [ARGUMENT ...]

The environment says by what ``SVI`` is replaced (``DROP_IN_BACKEND``) and where the row goes
(``DROP_IN_ROWS``), one JSON object.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from unittest.mock import MagicMock

import pyro
import torch

from drop_in_parts.recorded import install, made

# Libraries that scripts draw or download with: neither is looked at here.
UNUSED = ("seaborn", "visdom", "wget")
SEED = 0


def main() -> None:
    """Run the script that the command line names, in its own folder."""
    script = Path(sys.argv[1]).resolve()
    sys.argv = sys.argv[1:]
    install()
    for name in UNUSED:
        sys.modules.setdefault(name, MagicMock())
    # The scripts ask for the version of their own release; that of the library may be later.
    pyro.__version__ = "1.9.1"
    # Scripts read saved files and draw without a seed; some set one of their own.
    pyro.set_rng_seed(SEED)
    torch.set_num_threads(1)
    os.chdir(script.parent)
    sys.path[0] = str(script.parent)
    outcome, error = "passed", ""
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        outcome = "failed" if end.code else "passed"
        error = f"exit code {end.code}" if end.code else ""
    except Exception as problem:
        traceback.print_exc()
        outcome, error = "failed", f"{type(problem).__name__}: {problem}".splitlines()[0][:120]
    row = {"test": " ".join(sys.argv), "outcome": outcome, "error": error, "objects": made}
    Path(os.environ["DROP_IN_ROWS"]).write_text(json.dumps(row))


if __name__ == "__main__":
    main()
