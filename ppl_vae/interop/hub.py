"""Pairs by huggingface_hub's mixin, with a model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from ppl_vae import checks
from ppl_vae.diagnostics.evaluation import Evaluation
from ppl_vae.inference.saving.checkpoint import describe, load_pair, save_pair, versions
from ppl_vae.inference.saving.files import read_json
from ppl_vae.inference.saving.fingerprint import fingerprint
from ppl_vae.inference.saving.run_folder import make_writable
from ppl_vae.pair import Pair

try:
    from huggingface_hub import (
        EvalResult,
        ModelCard,
        ModelCardData,
        ModelHubMixin,
        snapshot_download,
    )
    from huggingface_hub.errors import HFValidationError
except ImportError:
    raise checks.extra("hub", "huggingface_hub") from None

P = TypeVar("P", bound=Pair)

_LIBRARY = "ppl_vae"
_TEMPLATE = """---
{{ card_data }}
---

# {{ name }}

A model and its guide in Pyro, saved by the library ppl_vae.

```python
from ppl_vae import Pair

pair = Pair.from_pretrained("{{ address }}"{{ trust }})
```

The files hold no code: `pair.json` names the class and its arguments, `pair.safetensors` holds the
numbers, and each has a hash.

## Evaluation

{% if found -%}
```text
{{ protocol }}
```

| {{ found.header | join(" | ") }} |
|{{ "---|" * (found.header | length) }}
{% for row in found.rows -%}
| {{ row | join(" | ") }} |
{% endfor %}
Averages are {{ found.caption }}.
{% for note in notes %}
- {{ note }}
{%- endfor %}
{%- else -%}
None was given.
{%- endif %}

## Made with

```json
{{ made }}
```
"""


class HubPair(
    ModelHubMixin,
    library_name=_LIBRARY,
    tags=["pyro", "variational-autoencoder"],
    model_card_template=_TEMPLATE,
):
    """A pair as huggingface_hub's mixin takes models; the pair itself needs no such library.

    Args:
        held: the pair.
        evaluation: of it, or None.
        address: what the card says to load it by.

    Raises:
        TypeError: something else than an `Evaluation`.
        ValueError: one of a pair of another class, or with other parameters.
    """

    def __init__(self, held: Pair, evaluation: Evaluation | None, address: str) -> None:
        name = type(held).__name__
        if evaluation is not None:
            remedy = "Pass what ppl_vae.evaluate(pair, data) returned."
            checks.instance("evaluation", evaluation, Evaluation, "an Evaluation", remedy)
            if evaluation.pair != name:
                raise checks.value_error(
                    f"an evaluation of this pair, of the class {name}",
                    f"one of a {evaluation.pair}",
                    remedy,
                )
            now = fingerprint(*held.state_dict().values())
            if evaluation.parameters_hash not in (None, now):
                raise checks.value_error(
                    "an evaluation of this pair with the parameters that it has now",
                    "one with others",
                    "Evaluate it again, or load the pair that was evaluated.",
                )
        self._held, self._evaluation, self._address = held, evaluation, address
        self._description = describe(held)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_pair(self._held, save_directory)
        # The mixin would leave an old card, whose numbers are of other parameters.
        self.generate_model_card().save(save_directory / "README.md")

    def generate_model_card(self, *_: object, **__: object) -> ModelCard:
        """Return the card: how to load the pair, what was found with which protocol, versions."""
        name, evaluation = type(self._held).__name__, self._evaluation
        data = ModelCardData(**self._hub_mixin_info.model_card_data.to_dict())
        found: dict[str, Any] = {}
        if evaluation is not None:
            data.model_name, data.eval_results = name, [_result(evaluation)]
            content = evaluation.to_json()
            (table,) = content["tables"]
            notes = [*content["conclusions"], *content["notes"]]
            found = {"found": table, "protocol": evaluation.evidence.describe(), "notes": notes}
        package = self._description["class"].partition(":")[0].partition(".")[0]
        return ModelCard.from_template(
            data,
            template_str=_TEMPLATE,
            name=name,
            address=self._address,
            trust="" if package in (_LIBRARY, "__main__") else f', trust=("{package}",)',
            made=json.dumps({**self._description, "versions": versions()}, indent=2),
            **found,
        )

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        trust: Sequence[str],
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Return the pair, by `load_pair` and its rules; only its two files are fetched."""
        for name in cls._hub_mixin_init_parameters:  # if config.json holds them, by itself
            options.pop(name, None)
        patterns = ["pair.json", "pair.safetensors"]
        folder = snapshot_download(model_id, allow_patterns=patterns, **options)
        return load_pair(folder, trust=trust)

    def save(self, folder: str | Path) -> None:
        """Write the pair, its card, and a ``config.json``, by which the Hub knows a model.

        Raises:
            FileExistsError: a ``config.json`` of something else is there.
            PermissionError: the folder cannot be written, or is a file.
        """
        config = checks.path("folder", folder) / "config.json"
        if config.exists() and read_json(config).get("library_name") != _LIBRARY:
            raise FileExistsError(
                checks.message(
                    "a folder without a config.json of something else",
                    f"{folder}, which holds a run of fit, or another model",
                    "Choose another folder.",
                )
            )
        make_writable(config.parent)
        self.save_pretrained(config.parent, config=self.config)

    @property
    def config(self) -> dict[str, Any]:
        """What ``config.json`` says; nothing reads it but the Hub."""
        return {"library_name": _LIBRARY, "class": self._description["class"]}


def load(cls: type[P], name: str | Path, trust: Sequence[str], options: dict[str, Any]) -> P:
    """Return a pair of a class from a folder or from the Hub; see `Pair.from_pretrained`."""
    folder = checks.path("name", name)
    looks_local = isinstance(name, Path) or str(name).startswith((".", "/", "~"))
    try:
        if str(name) and folder.is_dir():
            found: Any = load_pair(folder, trust=trust)
        elif looks_local or not str(name):
            raise HFValidationError
        else:
            found = HubPair.from_pretrained(str(name), trust=trust, **options)
    except HFValidationError:
        raise FileNotFoundError(
            checks.message(
                'a folder of save_pretrained, or a repository such as "user/name"',
                str(name) or "nothing",
                "Look for a slip of the pen.",
            )
        ) from None
    if not isinstance(found, cls):
        raise checks.type_error(
            f"a pair of the class {cls.__name__}",
            f"a {type(found).__name__} in {name}",
            "Load it by Pair.from_pretrained, or by its own class.",
        )
    return found


def _result(evaluation: Evaluation) -> EvalResult:
    """Return the evaluation as the Hub's metadata have it."""
    evidence = evaluation.evidence
    low, high = evidence.interval
    return EvalResult(
        task_type="density-estimation",
        dataset_type=evidence.source.data,
        dataset_name=evidence.source.data,
        dataset_split=evidence.source.split,
        metric_type="nll",
        metric_name="negative log-likelihood per example, nats",
        metric_value=evidence.nll.mean,
        metric_args={
            "standard_error": evidence.nll.standard_error,
            "interval_95": [low, high],
            "estimator": evidence.method,
            "num_samples": evidence.num_samples,
            "num_examples": len(evidence),
            "binarize": evidence.source.binarize,
        },
    )
