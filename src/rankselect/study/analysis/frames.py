"""Data frames. This is the only module of the study that imports pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankselect.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pandas import DataFrame

__all__ = ["frame", "records"]


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> DataFrame:
    """Create a data frame from rows, with the given columns even if there are no rows.

    Values that a row lacks or that are None become NaN, also if the complete column is missing.

    Raises:
        MissingExtraError: If pandas is not installed.

    Example:
        >>> frame([{"arm": "rank-8", "value": 0.5}], ["arm", "value"]).to_dict("records")
        [{'arm': 'rank-8', 'value': 0.5}]
    """
    try:
        import pandas as pd  # optional
    except ImportError as error:
        raise MissingExtraError("pandas", "study") from error
    table = pd.DataFrame(list(rows), columns=list(columns))
    empty = [name for name in columns if len(table) and table[name].isna().all()]
    return table.astype(dict.fromkeys(empty, "float64"))


def records(table: DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a data frame in JSON values; missing values become None.

    Example:
        >>> records(frame([{"arm": "base"}], ["arm", "low"]))
        [{'arm': 'base', 'low': None}]
    """
    plain = table.astype(object)
    found: list[dict[str, Any]] = plain.where(table.notna(), None).to_dict("records")
    return found
