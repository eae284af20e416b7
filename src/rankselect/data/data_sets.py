"""Data sets of the package `datasets`: by name on the hub, in a folder, with a configuration and a split."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

from rankselect.data.row_files import FORMATS, is_file_name
from rankselect.errors import DataError, MissingExtraError, first_sentence

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["DataSetName", "check_name", "load_data_set"]

_CONFIGURATION_AND_SPLIT = re.compile(r"([^\[\]]+)\[([A-Za-z_].*)\]")  # a part of a split begins with no letter
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HOW_TO_NAME = "A data set on the hub is named OWNER/NAME, OWNER/NAME:SPLIT or OWNER/NAME:CONFIGURATION[SPLIT]."
_SAVED = ("state.json", "dataset_dict.json")


@final
class DataSetName(NamedTuple):
    """What the name of a data set says.

    Attributes:
        path: The name on the hub, or the folder.
        configuration: The configuration, or None.
        split: The split, or a part of one (``train[:90%]``), or None.

    Example:
        >>> DataSetName.parse("owner/set:main[test]")
        DataSetName(path='owner/set', configuration='main', split='test')
        >>> DataSetName.parse("owner/set:train[:90%]").split, DataSetName.parse("owner/set:main[train[:90%]]").split
        ('train[:90%]', 'train[:90%]')
    """

    path: str
    configuration: str | None
    split: str | None

    @classmethod
    def parse(cls, name: str) -> DataSetName:
        """Take a name apart: ``path``, ``path:split`` or ``path:configuration[split]``."""
        colon = name.find(":", max(name.rfind("/"), name.rfind("\\")) + 1)
        if colon < 0 or Path(name).expanduser().exists():
            return cls(name, None, None)
        path, part = name[:colon], name[colon + 1 :]
        found = _CONFIGURATION_AND_SPLIT.fullmatch(part)
        if found:
            return cls(path, found.group(1), found.group(2))
        return cls(path, None, part)


def check_name(name: str) -> None:
    """Refuse the name of a file, folder or data set that cannot exist, before anything is loaded that takes long.

    A name is that of a file if it has the suffix of one, and a path if it could not be OWNER/NAME on the hub.

    Raises:
        DataError: If it does not exist.

    Example:
        >>> check_name("medical-qa"), check_name("owner/name:test")
        (None, None)
        >>> check_name("rows.jsonl")
        Traceback (most recent call last):
            ...
        rankselect.errors.DataError: expected a file of rows, got rows.jsonl, which does not exist. Check the path.
    """
    path = DataSetName.parse(name).path
    if name and (Path(name).expanduser().exists() or Path(path).expanduser().exists()):
        return
    if is_file_name(name):
        raise DataError("a file of rows", f"{name}, which does not exist", "Check the path.")
    if not _HUB_NAME.fullmatch(path) or path.startswith("."):
        raise DataError(
            "a file or folder of rows, or the name of a data set on the hub",
            f"{name or 'an empty name'}, which does not exist and is no such name",
            f"Check the path. {_HOW_TO_NAME}",
        )


def load_data_set(name: str, split: str, *, progress: bool) -> Any:
    """Load a data set from the hub, or from a folder that `datasets` can read.

    Args:
        name: The name; a configuration and a split may follow it.
        split: The split, if the name does not contain one.
        progress: Let `datasets` show its progress bars.

    Returns:
        A `datasets.Dataset`, or a `DatasetDict` if it was saved as one.

    Raises:
        DataError: If there is no such data set, configuration or split.
        MissingExtraError: If `datasets` is not installed.
    """
    try:
        import datasets  # optional
    except ImportError as error:
        raise MissingExtraError("datasets", "data") from error
    if not progress:
        datasets.disable_progress_bars()
    path, configuration, own_split = DataSetName.parse(name)
    folder = Path(path).expanduser()
    named = [configuration] if configuration else []
    try:
        if any((folder / file).is_file() for file in _SAVED):
            return _saved_split(datasets, folder, own_split or split)
        return datasets.load_dataset(str(folder) if folder.is_dir() else path, *named, split=own_split or split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        wanted = f"the split {own_split or split!r}"
        raise (_no_folder if folder.is_dir() else _not_on_the_hub)(name, wanted, error) from error


def _saved_split(datasets: ModuleType, folder: Path, split: str) -> Any:
    """A split of what `save_to_disk` wrote; a single data set has none to choose."""
    saved = datasets.load_from_disk(str(folder))
    if not isinstance(saved, dict):
        return saved
    if split not in saved:
        raise ValueError(f"Unknown split {split!r}. Should be one of [{', '.join(saved)}].")
    return saved[split]


def _no_folder(name: str, wanted: str, error: Exception) -> DataError:
    return DataError(
        f"a folder of rows with {wanted}",
        f"{name} ({first_sentence(error.__cause__ or error)})",
        f"{_known(error)}Name a file in it ({FORMATS}), or a split that it has: {DataSetName.parse(name).path}:SPLIT.",
    )


def _not_on_the_hub(name: str, wanted: str, error: Exception) -> DataError:
    return DataError(
        f"a file or folder of rows, or a data set on the hub with {wanted}",
        f"{name}, which is no file or folder here ({first_sentence(error)})",
        f"{_known(error) or 'Check name and connection. '}{_HOW_TO_NAME}",
    )


def _known(error: Exception) -> str:
    """The configurations or splits that there are, if the error of `datasets` lists them."""
    found = re.search(r"(available configs: |Should be one of )\[(.*?)\]", str(error))
    if not found:
        return ""
    return f"Its {'splits' if found.group(1).startswith('Should') else 'configurations'}: {found.group(2)}. "
