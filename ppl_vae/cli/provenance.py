"""How a folder of results came to be: command, versions, hardware, seed."""

from __future__ import annotations

import os
import platform
import shlex
from datetime import UTC, datetime
from pathlib import Path

import torch
import typer

from ppl_vae.inference.saving.checkpoint import versions
from ppl_vae.inference.saving.files import write_json

FILE = "provenance.json"


def record(folder: Path, context: typer.Context, device: str) -> None:
    """Write ``provenance.json`` into a folder: what repeats the command, and where it ran.

    Args:
        folder: of the results.
        context: of the command.
        device: it ran on.
    """
    content = {
        "command": command_line(context),
        "seed": context.params.get("seed"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(device),
    }
    write_json(folder / FILE, content)


def command_line(context: typer.Context) -> str:
    """Return the command as it was given, quoted for a shell; options follow the arguments."""
    arguments, options = [], []
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        if parameter.param_type_name == "argument":
            arguments += values
        elif value is True:
            options.append(parameter.opts[0])
        else:
            options += [word for each in values for word in (parameter.opts[0], each)]
    words = ["ppl-vae", context.info_name, *arguments, *options]
    return shlex.join(map(str, words))


def hardware(device: str) -> dict[str, str]:
    """Return processor, cores, system, and the GPU where one was used."""
    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(aliased=True),
        "device": device,
    }
    if device != "cpu" and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    """Return the processor's name; Linux tells it only in a file."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
