"""How a command ends: bad input is one line on stderr and exit code 2; SIGINT is 130."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

BAD_INPUT, FAILURE, INTERRUPTED = 2, 1, 130


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors into one line on stderr: of input with exit code 2, of arithmetic with 1.

    An interruption has 130; SIGTERM, which `fit` makes a SystemExit, keeps its 143.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        try:
            command(*args, **kwargs)
        except (ValueError, TypeError, NotImplementedError, OSError, ImportError) as error:
            _fail(error, BAD_INPUT)
        except ArithmeticError as error:
            _fail(error, FAILURE)
        except KeyboardInterrupt as error:
            _fail(str(error) or "stopped by SIGINT", INTERRUPTED)

    return wrapped


def _fail(error: Exception | str, code: int) -> None:
    print(f"ppl-vae: {' '.join(str(error).split())}", file=sys.stderr)
    raise typer.Exit(code) from None
