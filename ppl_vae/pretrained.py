"""Pairs in a folder with a model card, and on the Hugging Face Hub."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Self

from ppl_vae import checks


def _hub() -> Any:  # noqa: ANN401
    # By its name: that module saves pairs, so it comes long after what they are made of.
    return import_module("ppl_vae.interop.hub")


class Pretrained:
    """What `Pair` has of huggingface_hub's mixin.

    huggingface_hub is imported when one of these is called, and not before.
    """

    def save_pretrained(self, folder: str | Path, *, evaluation: Any = None) -> None:  # noqa: ANN401
        """Write what `save_pair` writes into a folder, and a model card, ``README.md``.

        The card says how to load the pair and what `evaluate` found, with the protocol. A
        ``README.md`` that was there is replaced.

        Args:
            folder: it is made if it is not there.
            evaluation: what ``evaluate(pair, data)`` returned, or None.

        Raises:
            ImportError: the extra ``hub`` is not installed.
            TypeError: another evaluation, or as `save_pair`.
            ValueError: an evaluation of another pair, or of other parameters than it has now;
                or as `save_pair`.
            FileExistsError: the folder is that of a run of `fit`, whose settings would be lost.
            PermissionError: it cannot be written, or is a file.

        Example:
            ``pair.save_pretrained("digits-vae", evaluation=evaluate(pair, test))``
        """
        _hub().HubPair(self, evaluation, checks.path("folder", folder).resolve().name).save(folder)

    def push_to_hub(self, repo_id: str, *, evaluation: Any = None, **options: Any) -> str:  # noqa: ANN401
        """Upload what `save_pretrained` writes to the Hugging Face Hub.

        Args:
            repo_id: such as ``"user/digits-vae"``; the repository is made if it is not there.
            evaluation: what ``evaluate(pair, data)`` returned, or None.
            **options: of huggingface_hub's mixin, such as ``private``, ``token`` and ``branch``.

        Returns:
            The commit's address.

        Raises:
            ImportError: the extra ``hub`` is not installed.
            TypeError: another evaluation, or as `save_pair`.
            ValueError: an evaluation of another pair, or of other parameters than it has now;
                or as `save_pair`.
        """
        held = _hub().HubPair(self, evaluation, repo_id)
        return held.push_to_hub(repo_id, config=held.config, **options)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        trust: tuple[str, ...] = (),
        **options: Any,  # noqa: ANN401
    ) -> Self:
        """Return the pair in a folder, or in a repository on the Hugging Face Hub.

        As by `load_pair`, nothing but the two files of a pair is read, no pickle among them, and
        a class from outside of ppl_vae is imported only if its package is trusted.

        Args:
            name: the folder, or such as ``"user/digits-vae"``.
            trust: packages, besides ppl_vae, whose code may run; see `load_pair`.
            **options: of huggingface_hub's mixin, such as ``revision``, ``token``, ``cache_dir``
                and ``local_files_only``.

        Raises:
            ImportError: the extra ``hub`` is not installed.
            FileNotFoundError: no such folder, and no name of a repository.
            TypeError: the pair is of another class than the one that was asked; or as
                `load_pair`.
            ValueError: as `load_pair`.
        """
        return _hub().load(cls, name, trust, options)
