"""Patterns name exactly the modules they should, whatever the names: what PEFT builds is the plan."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key
from torch import nn

from rankselect.plan.patterns import expression, shortest_target_modules, value_patterns
from rankselect.plan.planned_module import PlannedModule
from rankselect.plan.rank_plan import RankPlan
from rankselect.plan.targets import Target

# Digits of which one is the end of another, names that are the beginning or the end of others, and regex characters.
PARTS = ["0", "1", "11", "10", "q", "q_proj", "proj", "fc", "fc1", "output", "attention", "dense", "a+b", "(x)", "a|b"]
PATHS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map(tuple)
RANKS = st.integers(1, 4)


@st.composite
def layouts(draw):
    """Names of linear modules, none of which lies inside another, and a rank and an alpha for some of them."""
    paths = draw(st.lists(PATHS, min_size=1, max_size=12, unique=True))
    leaves = [path for path in paths if not any(other[: len(path)] == path and other != path for other in paths)]
    names = [".".join(path) for path in leaves]
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    values = {name: (draw(RANKS), draw(st.sampled_from([2.0, 8.0, 16.0, 0.3]))) for name in names if name in chosen}
    return names, values


class Box(nn.Module):
    """A module that holds others under any name."""


def model_of(names):
    root = Box()
    for name in names:
        *parents, last = name.split(".")
        here = root
        for part in parents:
            if part not in here._modules:
                here.add_module(part, Box())
            here = here._modules[part]
        here.add_module(last, nn.Linear(6, 5))
    return root


def plan_of(values, model):
    modules = tuple(PlannedModule(Target(name, None, 6, 5), rank, alpha) for name, (rank, alpha) in values.items())
    spec = shortest_target_modules(list(values), model)
    return RankPlan(modules, spec if isinstance(spec, str) else tuple(spec), "by hand", "Box", 1)


@given(layouts())
@settings(max_examples=60)
def test_peft_builds_exactly_these_ranks_and_alphas(layout):
    names, values = layout
    model = model_of(names)
    plan = plan_of(values, model)
    peft_model = get_peft_model(model, plan.to_lora_config())
    layers = {n: m for n, m in peft_model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    built = {name: (layer.r["default"], layer.lora_alpha["default"]) for name, layer in layers.items()}
    assert built == values
    for name, (rank, alpha) in values.items():
        assert layers[name].lora_A["default"].weight.shape == (rank, 6)
        assert layers[name].scaling["default"] == alpha / rank
    plan.verify(peft_model)
    assert len(plan.rank_pattern) == len({rank for rank, _ in values.values()}) - 1
    assert len(plan.alpha_pattern) == len({alpha for _, alpha in values.values()}) - 1
    assert peft_model.get_nb_trainable_parameters()[0] == plan.trainable_parameters


@given(st.lists(PATHS.map(".".join), min_size=1, max_size=15, unique=True), st.data())
@settings(max_examples=200)
def test_an_expression_matches_its_names_and_nothing_else(names, data):
    chosen = set(data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
    key = expression(sorted(chosen))
    around = [f"base.{name}" for name in names] + [f"{name}.0" for name in names]
    around += [f"x{name}" for name in names] + [f"{name}x" for name in names]
    for name in {*names, *around, *PARTS}:
        wanted = name in chosen
        assert bool(re.match(rf"(.*\.)?({key})$", name)) == wanted, name  # how PEFT looks up a rank
        assert (get_pattern_key([key], name) == key) == wanted, name
        assert bool(re.fullmatch(key, name)) == wanted, name  # how it looks for targets


def test_an_expression_is_short_where_layers_are_alike():
    names = [f"model.layers.{i}.{part}" for i in range(80) for part in ("self_attn.q_proj", "self_attn.v_proj")]
    assert len(expression(names)) < 330
    assert expression(["fc"]) == "^fc"
    assert expression(["a.q", "b.q"]) == r"^(?:a|b)\.q"


def test_the_commonest_value_is_the_default_and_the_smaller_one_where_two_are_as_common():
    assert value_patterns({"a": 4, "b": 4, "c": 9}) == (4, {"^c": 9})
    assert value_patterns({"a": 9, "b": 4}) == (4, {"^a": 9})
    assert value_patterns({"a": 2.5}) == (2.5, {})


class TestShortestTargetModules:
    MODEL = model_of(["layers.0.q", "layers.0.output.dense", "layers.1.q", "layers.1.output.dense", "pooler.dense"])

    @pytest.mark.parametrize(
        ("names", "spec"),
        [
            (["layers.0.q", "layers.1.q"], ["q"]),
            (["layers.0.q"], r"^layers\.0\.q"),
            (["layers.0.output.dense", "layers.1.output.dense"], r"^layers\.(?:0|1)\.output\.dense"),
            (["pooler.dense"], r"^pooler\.dense"),
        ],
    )
    def test_is_a_list_of_last_parts_where_that_is_exact(self, names, spec):
        assert shortest_target_modules(names, self.MODEL) == spec
