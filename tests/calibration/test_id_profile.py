"""The profile as a value, a file and a picture."""

from __future__ import annotations

import json
import sys
import warnings

import matplotlib as mpl
import numpy as np
import pytest

import rankselect as rs
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

mpl.use("Agg")
VALUES = {"model.layers.0": 3.2, "model.layers.1": 7.5}


@pytest.fixture(scope="module")
def measured():
    with pytest.warns(rs.RankSelectWarning):
        return rs.id_profile(tiny_model(), tiny_tokenizer(), tiny_texts(80), progress=False)


def test_from_values_keeps_names_and_numbers():
    profile = rs.IDProfile.from_values(VALUES, stderr=dict.fromkeys(VALUES, 0.5))
    assert profile.layers == tuple(VALUES)
    assert profile.values.tolist() == [3.2, 7.5]
    np.testing.assert_allclose(profile.intervals, [[2.22, 4.18], [6.52, 8.48]])
    assert profile.rank_intervals.tolist() == [[2, 4], [7, 8]]
    assert profile.value_of("model.layers.1") == 7.5


def test_intervals_are_unknown_without_standard_errors():
    profile = rs.IDProfile.from_values(VALUES)
    assert profile.stderr is None
    assert profile.intervals is None
    assert profile.rank_intervals is None


def test_ranks_start_at_one_and_intervals_at_zero():
    profile = rs.IDProfile.from_values({"a": 0.5}, stderr={"a": 2.0})
    assert profile.intervals[0, 0] == 0
    assert profile.rank_intervals[0, 0] == 1


def test_a_profile_cannot_be_changed(measured):
    with pytest.raises(ValueError, match="read-only"):
        measured.values[0] = 1.0
    with pytest.raises(AttributeError):
        measured.layers = ()


def test_save_and_load_give_the_same_profile(measured, tmp_path):
    measured.save(tmp_path / "profile.json")
    loaded = rs.IDProfile.load(tmp_path / "profile.json")
    assert loaded.layers == measured.layers
    assert loaded.values.tolist() == measured.values.tolist()
    assert loaded.stderr.tolist() == measured.stderr.tolist()
    assert loaded.input_values == measured.input_values
    assert loaded.measurement == measured.measurement
    rs.IDProfile.from_values(VALUES).save(tmp_path / "values.json")
    assert rs.IDProfile.load(tmp_path / "values.json").measurement is None


def rewritten(profile, path, change):
    profile.save(path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "of version 2. Upgrade rankselect"),
        (lambda d: d.update(version="1"), "of version '1'"),
        (lambda d: d.update(format="rankselect.rank_plan"), "whose format is 'rankselect.rank_plan'"),
        (lambda d: d.pop("values"), "expected a field 'values' of type list, got none"),
        (lambda d: d.update(values=["a", "b"]), "could not convert string"),
        (lambda d: d.update(values=[1.0]), "one number for each of 2 layers"),
        (lambda d: d.update(values=[1.0, -2.0]), "finite and above 0"),
        (lambda d: d.update(stderr=[1.0, -2.0]), "standard errors of at least 0"),
        (lambda d: d["measurement"].pop("pooling"), "whose content does not fit"),
        (lambda d: d["measurement"].pop("width"), "whose content does not fit"),
    ],
)
def test_a_damaged_file_is_refused(measured, tmp_path, change, message):
    path = rewritten(measured, tmp_path / "profile.json", change)
    with pytest.raises(rs.errors.FileFormatError, match=message):
        rs.IDProfile.load(path)


def test_a_truncated_file_is_refused(measured, tmp_path):
    path = tmp_path / "profile.json"
    measured.save(path)
    text = path.read_text()
    for length in (0, 1, len(text) // 2, len(text) - 3):
        path.write_text(text[:length])
        with pytest.raises(rs.errors.FileFormatError, match="which is not JSON"):
            rs.IDProfile.load(path)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({}, {}, "an ID for at least one layer"),
        ({"a": float("nan")}, {}, "finite and above 0, got nan for a"),
        ({"a": 0.0}, {}, "finite and above 0, got 0.0 for a"),
        ({"a": 2.0}, {"input_values": {"a": -1.0}}, "finite and above 0, got -1.0 for a"),
        ({"a": 2.0}, {"stderr": {}}, "a standard error for every layer, got 0 for 1 layers"),
        ({"a": 2.0}, {"stderr": {"a": float("inf")}}, "finite standard errors"),
    ],
)
def test_impossible_values_are_refused(values, options, message):
    with pytest.raises(rs.errors.EvidenceError, match=message):
        rs.IDProfile.from_values(values, **options)


def test_an_unknown_layer_is_named():
    with pytest.raises(rs.errors.EvidenceError, match="a profile with the layer x, got one of 2 layers without it"):
        rs.IDProfile.from_values(VALUES).value_of("x")


def test_the_plot_shows_values_and_intervals(measured, tmp_path):
    axes = measured.plot()
    (container,) = axes.containers
    np.testing.assert_allclose(container.lines[0].get_ydata(), measured.values)
    segments = container.lines[2][0].get_segments()
    np.testing.assert_allclose(
        [s[:, 1] for s in segments], measured.values[:, None] + 1.96 * measured.stderr[:, None] * [-1, 1]
    )
    axes.figure.savefig(tmp_path / "profile.png")
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG")


def test_two_profiles_are_drawn_before_and_after(measured):
    axes = measured.plot(measured)
    assert len(axes.containers) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["before", "after"]
    before, after = (container.lines[0].get_xdata() for container in axes.containers)
    assert (after > before).all()


def test_a_profile_is_drawn_into_given_axes(measured):
    axes = mpl.figure.Figure().subplots()
    assert measured.plot(ax=axes) is axes


def test_profiles_measured_in_different_ways_are_not_compared(measured):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.RankSelectWarning)
        last = rs.id_profile(tiny_model(), tiny_tokenizer(), tiny_texts(80), pooling="last", progress=False)
    with pytest.raises(rs.errors.EvidenceError, match="two profiles with the same pooling, got mean and last"):
        measured.plot(last)
    with pytest.raises(rs.errors.EvidenceError, match="two profiles of the same 2 layers"):
        measured.plot(rs.IDProfile.from_values({"x": 2.0}))


def test_without_matplotlib_the_extra_is_named(measured, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(rs.errors.MissingExtraError, match=r'pip install "rankselect\[plot\]"'):
        measured.plot()


def test_the_text_picture_has_a_line_for_each_layer_and_says_how_it_was_measured(measured):
    *rows, caption = str(measured).splitlines()
    assert len(rows) == 2
    assert all("●" in row and "±" in row for row in rows)
    assert "mean pooling, 80 texts" in caption
    columns = [row.index("●") for row in rows]
    assert (np.diff(columns) > 0) == (np.diff(measured.values) > 0)
    assert "±" not in str(rs.IDProfile.from_values(VALUES))
