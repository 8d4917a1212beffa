"""How a command ends: bad input is one line on stderr and exit code 2; SIGINT is 130."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import typer

BAD_INPUT, FAILURE, INTERRUPTED = 2, 1, 130


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors into one line on stderr: of input with exit code 2, of arithmetic with 1.

    That another process failed has 1 too. An interruption has 130; SIGTERM, which `fit` makes a
    SystemExit, keeps its 143.
    """
    options = inspect.signature(command).parameters

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        try:
            command(*args, **kwargs)
        except (ArithmeticError, ConnectionError) as error:
            _fail(error, FAILURE, options)
        except (ValueError, TypeError, NotImplementedError, OSError, ImportError) as error:
            _fail(error, BAD_INPUT, options)
        except KeyboardInterrupt as error:
            _fail(str(error) or "stopped by SIGINT", INTERRUPTED, options)

    return wrapped


def _fail(error: Exception | str, code: int, options: Iterable[str]) -> None:
    print(f"ppl-vae: {_in_options(' '.join(str(error).split()), options)}", file=sys.stderr)
    raise typer.Exit(code) from None


def _in_options(text: str, options: Iterable[str]) -> str:
    """Return a message with the command's options where it names Python's arguments."""
    names = "|".join(options)
    text = re.sub(rf"\b({names})=True\b", lambda m: _option(m[1]), text)
    return re.sub(rf"\b({names})='(\w+)'", lambda m: f"{_option(m[1])} {m[2]}", text)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
