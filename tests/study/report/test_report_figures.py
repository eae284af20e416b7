"""The figures of a report: colours that can be seen, names that do not cover each other, drawings for a page."""

from __future__ import annotations

import re
import sys

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.errors import MissingExtraError
from rankselect.study.report import figures
from rankselect.study.report.content import Interval
from rankselect.study.report.figure_data import loss_bands, profiles_after, ranks_of_layers
from rankselect.study.report.figures import drawn
from rankselect.study.report.labels import spread
from rankselect.study.report.palette import INKS, arm_styles
from rankselect.study.report.wording import number, signed, with_interval
from rankselect.study.report.write import inline_svg
from rankselect.study.run import Run, RunResult

NAMES = ("base", "rank-1", "rank-6", "rank-14", "per-layer-id", "id-control", "rank-64", "rank-128")
STYLES = arm_styles(NAMES, ["base"])
PAGES = {"light": "#ffffff", "dark": "#15181d"}


def luminance(colour):
    """As WCAG 2 defines it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("mode", PAGES)
def test_every_colour_of_text_has_enough_contrast(mode):
    colours = [getattr(style, mode) for style in STYLES.values()]
    colours += [INKS[name][mode == "dark"] for name in ("ink", "muted")]
    assert min(contrast(colour, PAGES[mode]) for colour in colours) >= 4.5


def test_arms_differ_in_colour_or_in_marker():
    assert len({(style.light, style.marker) for style in STYLES.values()}) == len(NAMES)
    assert len({style.light for style in list(STYLES.values())[:7]}) == 7


@given(st.lists(st.floats(-1, 2), min_size=1, max_size=8))
def test_spread_keeps_the_order_and_the_distance(places):
    moved = spread(places, 0.1)
    order = np.argsort(places, kind="stable")
    assert (np.diff(np.array(moved)[order]) >= 0.1 - 1e-9).all()
    assert np.isclose(np.mean(moved), np.mean(places))


@given(st.floats(-1e6, 1e6))
def test_numbers_are_written_to_three_digits(value):
    error = max(0.5 * 10.0**-3, abs(value) * 0.006)
    written = float(number(value).replace(",", ""))
    assert abs(written - value) <= (error if abs(value) >= 0.001 else abs(value) * 0.5)
    assert signed(value).startswith("+") == (value > 0)


def test_a_number_without_an_interval_stands_alone():
    assert with_interval(0.25, float("nan"), float("nan")) == "0.250"


def test_a_drawing_fits_into_a_page_beside_others():
    points = [Interval(name, 0.5, 0.45, 0.55, x=10.0 ** (6 + place / 4)) for place, name in enumerate(NAMES[1:])]
    base = Interval("base", 0.3, 0.2, 0.4)
    one, other = (
        inline_svg(
            figures.scores(points, base, STYLES, "parameters", "f1 <&>"), name, 'said "so" & <so>', STYLES.values()
        )
        for name in ("one", "other")
    )
    assert 'aria-label="said &quot;so&quot; &amp; &lt;so&gt;"' in one
    assert "http" not in one
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", one)
    assert {*NAMES, "f1 &lt;&amp;&gt;", "1M"} <= set(texts)
    assert all(f"var(--{STYLES[name].variable})" in one for name in NAMES[2:])
    assert STYLES["rank-6"].light not in one
    assert "DejaVu" not in one


def test_names_of_points_do_not_cover_each_other():
    points = [Interval(name, 0.5, 0.45, 0.55, x=1e6 + place) for place, name in enumerate(NAMES[:6])]
    figure = figures.scores(points, None, STYLES, "x", "y")
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert len(boxes) == 6
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


@pytest.mark.parametrize(
    ("values", "scale"), [((9.0, 90.0), "log"), ((9.0, 40.0), "linear"), ((-0.01, 90.0), "linear")]
)
def test_scores_that_spread_widely_have_a_logarithmic_axis(values, scale):
    points = [Interval("rank-1", values[0], values[0], values[0] + 0.1, x=10.0)]
    reference = Interval("base", values[1], values[1] - 0.1, values[1])
    (axes,) = figures.scores(points, reference, STYLES, "trainable parameters", "perplexity").axes
    assert axes.get_yscale() == scale


def test_the_users_own_settings_of_matplotlib_are_left_alone():
    with mpl.rc_context({"font.size": 33.0}):
        with drawn():
            assert mpl.rcParams["font.size"] == 11
        assert mpl.rcParams["font.size"] == 33


def test_matplotlib_is_asked_for_if_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="matplotlib"), drawn():
        pass


def result(arm="a", seed=0, **values):
    return RunResult(Run("final", arm, seed, 1e-3, 8.0), **values)


def test_ranks_are_found_in_every_layout_of_layers():
    ranks = {
        "encoder.block.10.layer.0.q": 8,
        "encoder.block.9.layer.0.q": 4,
        "encoder.block.9.layer.1.wi": 6,
        "lm_head": 3,
    }
    layers, found = ranks_of_layers({"a": [result(ranks=ranks)], "base": [result("base")]})
    assert layers == ["encoder.block.9", "encoder.block.10"]
    assert found.keys() == {"a"}
    assert found["a"].tolist() == [5, 8]
    assert ranks_of_layers({"a": [result(ranks={"0.attention": 2})]})[0] == ["0"]


def test_a_layer_without_an_adapter_has_no_rank():
    _, found = ranks_of_layers({"a": [result(ranks={"h.0.c": 2})], "b": [result("b", ranks={"h.1.c": 4})]})
    assert np.isnan(found["a"]).tolist() == [False, True]
    figure = figures.rank_per_layer(found, arm_styles(["a", "b"]))
    assert len(figure.axes[0].lines) == 2


def test_profiles_after_training_are_averaged_and_their_errors_are_not_made_smaller():
    profiles = [{"layers": ["h.0", "h.1"], "values": values, "stderr": [0.5, 0.5]} for values in ([4, 6], [6, 8])]
    after = profiles_after(
        {"a": [result(seed=seed, profile_after=each) for seed, each in enumerate(profiles)]}, ["h.0", "h.1"]
    )
    assert after["a"][0].tolist() == [5, 7]
    assert after["a"][1].tolist() == [0.5, 0.5]
    assert profiles_after({"a": [result(profile_after=profiles[0])]}, ["h.0"]) == {}


def test_loss_bands_hold_the_seeds():
    curves = [[[step, float(step + seed)] for step in range(1, 101)] for seed in (0, 2)]
    arms = {
        "a": [result(seed=seed, training={"losses": curve}) for seed, curve in enumerate(curves)],
        "b": [result("b")],
    }
    bands = loss_bands(arms)
    steps, mean, low, high = bands["a"]
    assert bands.keys() == {"a"}
    assert steps[[0, -1]].tolist() == [4, 100]
    assert np.allclose(mean, steps - 1.5 + 1)
    assert np.allclose(high - low, 2)
