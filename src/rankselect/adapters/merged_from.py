"""The note in a merged model's folder: which adapter is in its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rankselect.adapters.adapter_folder import WEIGHTS
from rankselect.adapters.record import RECORD_FILE, TrainingRecord
from rankselect.files import read_document, read_fields, write_document
from rankselect.models.names import model_name

if TYPE_CHECKING:
    import os

    from torch import nn

    from rankselect.adapters.adapter_folder import AdapterFolder

__all__ = ["MERGE_FILE", "MergedFrom"]

MERGE_FILE = "rankselect_merge.json"
_FORMAT, _VERSION = "rankselect.merge", 1


@final
@dataclass(frozen=True)
class MergedFrom:
    """The adapter that a model folder was merged from.

    Without it, nobody could tell that an adapter is applied twice, or which prompt template a merged model expects.

    Attributes:
        adapter: The path of the adapter.
        digest: SHA-256 of its weights.
        record: Its training record, as in its file; empty if it has none.
    """

    adapter: str
    digest: str
    record: dict[str, Any]

    @classmethod
    def of(cls, adapter: AdapterFolder) -> MergedFrom:
        """The note about an adapter."""
        return cls(str(adapter.path), _digest(adapter.path), adapter.record)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> MergedFrom | None:
        """The note in a model's folder; None if there is none, or if it is no folder.

        Raises:
            FileFormatError: If the note is damaged, or of a newer version.
        """
        path = Path(folder) / MERGE_FILE
        if not path.is_file():
            return None
        document = read_document(path, _FORMAT, _VERSION)
        return read_fields(document, cls, path)

    @classmethod
    def of_model(cls, model: nn.Module) -> MergedFrom | None:
        """The note in the folder that a model was loaded from."""
        name = model_name(model)
        return None if name is None else cls.load(name)

    def save(self, folder: Path) -> None:
        """Write the note into a model's folder."""
        write_document(folder / MERGE_FILE, {"format": _FORMAT, "version": _VERSION, **vars(self)})

    def training_record(self) -> TrainingRecord | None:
        """The training record of the adapter, if it has one.

        Raises:
            FileFormatError: If it is damaged.
        """
        return read_fields(self.record, TrainingRecord, f"{RECORD_FILE} of {self.adapter}") if self.record else None

    def is_of(self, adapter: AdapterFolder) -> bool:
        """Whether this is the adapter that was merged."""
        return self.digest == _digest(adapter.path)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    with (folder / WEIGHTS).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
