"""The first example, run as a newcomer runs it, on an untrained model to be quick."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rankselect as rs
from rankselect.embedded.small_phi import small_phi

EXAMPLE = Path(__file__).parents[2] / "examples" / "first_plan.py"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    command = [sys.executable, str(EXAMPLE), "--steps", "0", "--out", str(out)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_it_leaves_the_profile_its_picture_and_the_plan(demo):
    out, _ = demo
    model, _ = small_phi(steps=0, progress=False)
    profile, plan = rs.IDProfile.load(out / "profile.json"), rs.RankPlan.load(out / "plan.json")
    assert profile.layers == rs.layer_names(model)
    assert plan.ranks == rs.PerLayerID().plan(model, profile).ranks
    assert (out / "profile.png").read_bytes().startswith(b"\x89PNG")


def test_it_shows_every_strategy_layer_by_layer(demo):
    out, text = demo
    profile = rs.IDProfile.load(out / "profile.json")
    table = (line.split() for line in text.splitlines() if line.startswith("  ") and line.strip())
    rows = {name: cells for name, *cells in table}
    for layer, (low, high) in zip(profile.layers, profile.rank_intervals, strict=True):
        fixed, least, mean, greatest, own, _ = map(int, rows[layer])
        assert fixed == 8
        assert least <= mean <= greatest
        assert low <= own <= high
    assert len(rows["trainable"]) == 6


def test_it_says_what_it_does_not_show(demo):
    assert "that one of these plans trains better than another" in demo[1]
