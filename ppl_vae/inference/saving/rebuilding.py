"""The class that a file names, if it may be imported, and the arguments that it takes."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from typing import Any

from ppl_vae import checks
from ppl_vae.pair import Pair


def check_trust(trust: object) -> tuple[str, ...]:
    """Return `trust`, which must be a tuple or list of package names.

    Raises:
        TypeError: it is something else, such as one name.
    """
    if isinstance(trust, (tuple, list)) and all(isinstance(name, str) for name in trust):
        return tuple(trust)
    raise checks.type_error(
        "trust as a tuple of package names", repr(trust), 'For example trust=("my_package",).'
    )


def find_class(name: str, trust: Sequence[str]) -> type[Pair]:
    """Return the pair class called ``module:Class``; import its module only if that is trusted.

    Modules of ppl_vae are, and those of the packages named in `trust`. A class of ``__main__`` is
    looked up in the running program, where nothing is imported.

    Raises:
        ValueError: a module that is not trusted, none of that name, or no pair in it.
    """
    module, _, path = name.partition(":")
    if module == "__main__":
        found: Any = sys.modules["__main__"]
    elif any(module == each or module.startswith(f"{each}.") for each in ("ppl_vae", *trust)):
        found = _imported(module, name)
    else:
        package = module.partition(".")[0]
        raise checks.value_error(
            "a pair whose class is from ppl_vae, or from a package that is trusted",
            f"{name}, of which nothing was imported",
            f'If you trust its code: load_pair(path, trust=("{package}",)), '
            f"or --trust {package} on the command line.",
        )
    for part in path.split("."):
        found = vars(found).get(part)
        if not isinstance(found, type):
            where = "a program that defines it" if module == "__main__" else "its version"
            raise checks.value_error(
                f"a class {path} in {module}", "none", f"Load the pair with {where}."
            )
    if not issubclass(found, Pair):
        raise checks.value_error(
            "the name of a class of pairs",
            f"{name}, which is no ppl_vae.Pair",
            "Restore the file.",
        )
    return found


def check_config(cls: type[Pair], config: dict[str, Any]) -> None:
    """Raise unless the class's constructor takes the names in `config`.

    Raises:
        ValueError: a name that it does not take, with the nearest that it does, or one missing.
    """
    parameters = inspect.signature(cls).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    known = {p.name: p for p in parameters if p.kind not in variable}
    if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
        for key in config:
            checks.name(f"an argument of {cls.__name__}", key, known)
    needed = [key for key, p in known.items() if p.default is inspect.Parameter.empty]
    missing = [key for key in needed if key not in config]
    if missing:
        raise checks.value_error(
            f"a configuration of {cls.__name__} with {', '.join(needed)}",
            f"one without {', '.join(missing)}",
            "Use the version of the class that the pair was saved with.",
        )


def _imported(module: str, name: str) -> Any:  # noqa: ANN401
    try:
        return importlib.import_module(module)
    except Exception as error:  # the module's own code runs, and may raise what it likes
        raise checks.value_error(
            f"a module {module} that can be imported, for the class {name}",
            f"{type(error).__name__}: {' '.join(str(error).split())}",
            "Install the package, or the version that the pair was saved with.",
        ) from error
