"""Every error says what was expected, what came and what to do; and survives a process boundary."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import rankselect as rs
from rankselect import errors

SPECIAL = {
    errors.IncompatibleVersionError: ("peft", "get_pattern_key", "0.21.2", "1.0", "plan/_peft.py"),
    errors.MissingExtraError: ("matplotlib", "plot"),
    errors.UnknownNameError: ("strategy", "per-layer", ["fixed", "per-layer-id"]),
}
ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.RankSelectError)]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_has_three_parts_and_says_them_in_order(kind):
    error = kind(*SPECIAL.get(kind, ("a rank", "-1", "Give a rank of at least 1.")))
    assert all(isinstance(part, str) and part for part in (error.expected, error.got, error.remedy))
    assert str(error) == f"expected {error.expected}, got {error.got}. {error.remedy}"


@pytest.mark.parametrize("kind", ALL)
def test_an_error_survives_pickling_and_copying(kind):
    error = kind(*SPECIAL.get(kind, ("a rank", "-1", "Give a rank of at least 1.")))
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert twin.args == error.args
        assert (twin.expected, twin.got, twin.remedy) == (error.expected, error.got, error.remedy)


def test_all_errors_are_public_and_of_one_family():
    assert {kind.__name__ for kind in ALL} | {"RankSelectWarning"} == set(errors.__all__)
    assert set(errors.__all__) & set(rs.__all__) == {"RankSelectError", "RankSelectWarning"}
    assert issubclass(rs.RankSelectWarning, UserWarning)


def test_errors_are_also_what_python_would_raise():
    assert issubclass(rs.errors.MissingExtraError, ImportError)
    assert issubclass(rs.errors.UnknownNameError, LookupError)
    for kind in (
        rs.errors.ArgumentError,
        rs.errors.PointsError,
        rs.errors.TextsError,
        rs.errors.EvidenceError,
        rs.errors.FileFormatError,
    ):
        assert issubclass(kind, ValueError)
    assert not issubclass(rs.errors.PlanMismatchError, ValueError)


def test_an_unknown_name_offers_what_is_near():
    assert "Did you mean per-layer-id? Known: fixed, per-layer-id." in str(
        rs.errors.UnknownNameError("strategy", "per_layer_id", ["per-layer-id", "fixed"])
    )
    assert str(rs.errors.UnknownNameError("metric", "x", [])).endswith("got 'x'. Known: none.")


def test_a_missing_extra_says_what_to_install():
    assert rs.errors.MissingExtraError("skdim", "skdim").remedy == 'Run: pip install "rankselect[skdim]"'
