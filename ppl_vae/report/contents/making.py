"""How results were made: configuration, versions, hardware, seed, and the command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ppl_vae.report.blocks import Cell, Code, Facts, Section, Sentences, Table
from ppl_vae.report.folders import Results


def making(results: Results, config: dict[str, Any]) -> Section:
    """Return the section on how the results were made; it takes the files that say so.

    Args:
        results: that have them.
        config: of the run; empty of a comparison.
    """
    section = Section("How this was made")
    count = sum(path.name == "provenance.json" for path in results.files)
    found = [results.object("provenance.json") for _ in range(count)]
    commands = [str(record["command"]) for record in found if record.get("command")]
    if commands:
        which = "This command repeats" if len(commands) == 1 else "These commands repeat"
        section.blocks.append(Sentences([f"{which} it:"], "text"))
        section.blocks += [Code(command) for command in commands]
    facts: list[tuple[str, str]] = []
    first = found[0] if found else {}
    for source in (config, first):
        facts += [("seed", str(source["seed"]))] if source.get("seed") is not None else []
        facts += [(str(k), str(v)) for k, v in _mapping(source, "versions").items()]
    facts += [(str(k), str(v)) for k, v in _mapping(first, "hardware").items()]
    facts += [("finished", str(first["finished"]))] if "finished" in first else []
    facts = list(dict.fromkeys(facts))
    if facts:
        section.blocks.append(Facts(facts))
    elif results.is_comparison or config:
        section.blocks.append(
            Sentences(["Versions, hardware and command were not recorded with these."], "text")
        )
    rows = [[Cell(name), Cell(value)] for name, value in flat(config) if "versions" not in name]
    if rows:
        section.blocks.append(Table("Configuration of the training", ["option", "value"], rows))
    path = results.find("train.toml")
    if path is not None:
        section.blocks.append(
            Sentences([f"{path.name} holds the training's options, and repeats it."], "text")
        )
    return section


def flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested options as ``outer.inner`` with their values."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif value is not None:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{prefix}{name}", shown


def texts(content: dict[str, Any], name: str) -> list[str]:
    """Return a list of texts in an object; empty if there is none."""
    found = content.get(name)
    return [str(each) for each in found if each] if isinstance(found, list) else []


def _mapping(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}
