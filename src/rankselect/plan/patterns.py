"""Exact and short regular expressions over module names, as PEFT's `rank_pattern` and `target_modules` take them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, TypeVar

from rankselect.plan._peft import adapted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import nn

__all__ = ["expression", "shortest_target_modules", "value_patterns"]

Value = TypeVar("Value", int, float)


def expression(names: Collection[str]) -> str:
    r"""One regular expression that matches these full module names and nothing else.

    PEFT matches keys at the *end* of a name, so a bare ``1.mlp`` would also hit layer 11. The expression is anchored
    at the start, literal where the names agree, with alternatives where they differ: one key for each rank, which
    PEFT resolves much faster than one key for every module.

    Args:
        names: At least one full module name.

    Example:
        >>> print(expression(["layers.0.q", "layers.0.v", "layers.11.q", "layers.11.v"]))
        ^layers\.(?:0|11)\.(?:q|v)
    """
    tree: dict[str, Any] = {}
    for name in names:
        node = tree
        for part in name.split("."):
            node = node.setdefault(part, {})
        node[""] = {}  # a name may be the beginning of another
    return "^" + _alternatives(tree)


def value_patterns(values: Mapping[str, Value]) -> tuple[Value, dict[str, Value]]:
    r"""The commonest value, and one pattern for each other value: PEFT's ``r`` and ``rank_pattern``.

    Args:
        values: A rank or an alpha for every module. Ties for the commonest go to the smaller value.

    Example:
        >>> default, pattern = value_patterns({"a.q": 8, "b.q": 8, "c.q": 2})
        >>> default, pattern
        (8, {'^c\\.q': 2})
    """
    counts = Counter(values.values())
    default = min(counts, key=lambda value: (-counts[value], value))
    groups: dict[Value, list[str]] = defaultdict(list)
    for name, value in values.items():
        if value != default:
            groups[value].append(name)
    return default, {expression(groups[value]): value for value in sorted(groups)}


def shortest_target_modules(names: Sequence[str], model: nn.Module) -> str | list[str]:
    r"""The shortest `target_modules` with which PEFT adapts exactly these modules of a model.

    Args:
        names: The full names of the modules to adapt.
        model: The model.

    Returns:
        A list of last name parts if that is exact, as people write it by hand; else one regular expression; else
        (PEFT reduces expressions to last name parts in models with fused experts) the full names.

    Example:
        >>> from torch import nn
        >>> block = nn.ModuleDict({"q": nn.Linear(4, 4), "fc": nn.Linear(4, 8)})
        >>> model = nn.ModuleDict({"layers": nn.ModuleList([block]), "pooler": nn.ModuleDict({"q": nn.Linear(4, 4)})})
        >>> shortest_target_modules(["layers.0.fc"], model), shortest_target_modules(["layers.0.q"], model)
        (['fc'], '^layers\\.0\\.q')
    """
    endings = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in names))
    for candidate in (endings, expression(names)):
        if set(adapted(candidate, model)) == set(names):
            return candidate
    return list(names)


def _alternatives(node: dict[str, Any]) -> str:
    """The names below a node; parts with the same continuations share one branch."""
    by_tail: dict[str, list[str]] = defaultdict(list)
    for part, child in node.items():
        if part:
            by_tail[_tail(child)].append(part)
    branches = [_either([re.escape(part) for part in parts]) + tail for tail, parts in by_tail.items()]
    return _either(branches)


def _tail(node: dict[str, Any]) -> str:
    """The possible continuations of a name part: nothing, or a dot and the parts below it."""
    if node.keys() == {""}:
        return ""
    below = rf"\.{_alternatives(node)}"
    return f"(?:{below})?" if "" in node else below


def _either(branches: list[str]) -> str:
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
