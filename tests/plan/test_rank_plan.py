"""The plan as a value: what it counts, the config it gives, the file it becomes, and what it refuses to be."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from xml.etree import ElementTree as ET

import pytest
from peft import LoraConfig, TaskType

import rankselect as rs
from rankselect.memory import estimate_memory
from rankselect.plan.planned_module import PlannedModule
from rankselect.plan.rank_plan import RankPlan
from rankselect.plan.table import as_html
from rankselect.plan.targets import Target
from rankselect.testing import tiny_model


def planned(name, rank, alpha, *, d_out=24, layer="layers.0"):
    return PlannedModule(Target(name, layer, 16, d_out), rank, alpha)


@pytest.fixture
def plan():
    return RankPlan(
        modules=(
            planned("layers.1.q", 2, 16.0, layer="layers.1"),
            planned("layers.0.q", 3, 24.0),
            planned("layers.0.fc", 3, 2.5, d_out=64),
            planned("head", 1, 8.0, layer=None),
        ),
        target_modules=r"^(?:layers\.(?:0|1)\.q|layers\.0\.fc|head)",
        strategy="ByHand()",
        model_name="box",
        base_parameters=10_000,
    )


def test_the_html_has_a_cell_for_each_of_the_texts():
    modules = (planned("layers.0.attention.q", 2, 16.0), planned("layers.0.attention.v", 2, 16.0))
    assert as_html(modules, "a < b") == (
        "<table><caption>a &lt; b</caption><thead><tr><th>layer</th><th>modules</th><th>rank</th><th>alpha</th>"
        "<th>parameters</th></tr></thead><tbody><tr><td>layers.0</td><td>q v</td><td>2</td><td>16</td><td>160</td></tr>"
        "</tbody></table>"
    )
    two = as_html((*modules, planned("layers.0.fc", 3, 16.0)), "")
    assert "<td>160</td></tr><tr><td>layers.0</td><td>fc</td>" in two


@pytest.mark.parametrize("name", ["name", "layer", "d_in", "d_out", "rank", "alpha"])
def test_a_field_of_a_module_that_is_damaged_is_named_with_its_file(plan, tmp_path, name):
    path = tmp_path / "plan.json"
    plan.save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["modules"][0][name] = {}
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(rs.errors.FileFormatError, match=rf"{name}.*plan\.json"):
        RankPlan.load(path)


@pytest.mark.parametrize("name", ["modules", "target_modules", "strategy", "model_name", "base_parameters"])
def test_a_field_of_a_plan_that_is_damaged_is_named_with_its_file(plan, tmp_path, name):
    path = tmp_path / "plan.json"
    plan.save(path)
    document = {**json.loads(path.read_text(encoding="utf-8")), name: {}}
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(rs.errors.FileFormatError, match=rf"{name}.*plan\.json"):
        RankPlan.load(path)


class TestScaled:
    def test_ranks_are_rounded_half_up_and_kept_from_one_to_what_the_module_allows(self, plan):
        assert list(plan.scaled(0.5).ranks.values()) == [1, 2, 2, 1]
        assert list(plan.scaled(0.01).ranks.values()) == [1, 1, 1, 1]
        assert list(plan.scaled(7).ranks.values()) == [14, 16, 16, 7]

    def test_alpha_follows_the_rank(self, plan):
        assert list(plan.scaled(0.5).alphas.values()) == pytest.approx([8.0, 16.0, 2.5 / 3 * 2, 8.0])

    def test_nothing_else_changes_but_the_strategy(self, plan):
        half = plan.scaled(0.5)
        assert half.strategy == "ByHand(), ranks scaled by 0.5"
        assert dataclasses.replace(half, modules=plan.modules, strategy=plan.strategy) == plan
        assert [module.target for module in half.modules] == [module.target for module in plan.modules]
        assert plan.scaled(1) is plan


class TestWhatItSays:
    def test_ranks_and_alphas_keep_the_order_of_the_model(self, plan):
        assert list(plan.ranks.items()) == [("layers.1.q", 2), ("layers.0.q", 3), ("layers.0.fc", 3), ("head", 1)]
        assert list(plan.alphas.values()) == [16.0, 24.0, 2.5, 8.0]

    def test_patterns_name_all_but_the_commonest(self, plan):
        assert plan.rank_pattern == {r"^head": 1, r"^layers\.1\.q": 2}
        assert plan.alpha_pattern == {r"^head": 8, r"^layers\.1\.q": 16, r"^layers\.0\.q": 24}
        assert all(isinstance(alpha, int) for alpha in plan.alpha_pattern.values())

    def test_parameters_are_counted(self, plan):
        assert plan.trainable_parameters == 2 * 40 + 3 * 40 + 3 * 80 + 1 * 40
        assert plan.trainable_percentage == pytest.approx(100 * 480 / 10_480)

    def test_the_text_has_a_row_for_each_layer_rank_and_alpha(self, plan):
        assert str(plan).splitlines() == [
            "layer      modules  rank  alpha  parameters",
            "layers.1   q           2     16          80",
            "layers.0   q           3     24         120",
            "layers.0   fc          3    2.5         240",
            "(outside)  head        1      8          40",
            "ByHand(): 4 modules, ranks 1 to 3, 480 trainable parameters (4.58 %)",
        ]

    def test_modules_of_a_layer_that_share_a_rank_share_a_row(self):
        text = str(rs.Fixed(4).plan(tiny_model()))
        assert "model.layers.0  q_proj v_proj     4     32         448" in text
        assert text.endswith("Fixed(rank=4): 4 modules, rank 4, 896 trainable parameters (4.25 %)")

    def test_the_html_is_well_formed_and_escaped(self, plan):
        hostile = dataclasses.replace(
            plan, strategy="<script>alert(1)</script>", modules=(planned("a.<b>&", 1, 8.0, layer="<i>"),)
        )
        table = ET.fromstring(hostile._repr_html_())
        assert table.tag == "table"
        assert table.findtext("caption").startswith("<script>alert(1)</script>: 1 modules")
        assert [cell.text for cell in table.iter("th")] == ["layer", "modules", "rank", "alpha", "parameters"]
        assert [cell.text for cell in table.iter("td")] == ["<i>", "<b>&", "1", "8", "40"]


class TestConfig:
    def test_holds_the_plan(self, plan):
        config = plan.to_lora_config()
        assert isinstance(config, LoraConfig)
        assert (config.r, config.lora_alpha) == (3, 2.5)
        assert config.rank_pattern == plan.rank_pattern
        assert config.alpha_pattern == plan.alpha_pattern
        assert config.target_modules == plan.target_modules

    def test_whole_alphas_are_ints_as_the_files_of_peft_have_them(self, tmp_path):
        config = rs.Fixed(4).plan(tiny_model(), alpha_ratio=2.0).to_lora_config()
        config.save_pretrained(tmp_path)
        saved = json.loads((tmp_path / "adapter_config.json").read_text())
        assert (saved["r"], repr(saved["lora_alpha"])) == (4, "8")
        assert LoraConfig.from_pretrained(tmp_path).target_modules == {"q_proj", "v_proj"}

    def test_passes_other_arguments_through(self, plan):
        config = plan.to_lora_config(
            task_type="CAUSAL_LM", lora_dropout=0.1, use_rslora=True, use_dora=True, bias="lora_only"
        )
        assert config.task_type == TaskType.CAUSAL_LM
        assert (config.lora_dropout, config.bias) == (0.1, "lora_only")
        assert config.use_rslora
        assert config.use_dora

    @pytest.mark.parametrize(
        "name",
        [
            "r",
            "lora_alpha",
            "target_modules",
            "rank_pattern",
            "alpha_pattern",
            "exclude_modules",
            "layers_to_transform",
            "layers_pattern",
            "layer_replication",
            "target_parameters",
        ],
    )
    def test_refuses_what_the_plan_decides(self, plan, name):
        with pytest.raises(
            rs.errors.ArgumentError, match=f"other than those that the plan decides, got {name}. Leave it"
        ):
            plan.to_lora_config(**{name: None})

    def test_an_unknown_argument_is_pefts_to_refuse(self, plan):
        with pytest.raises(TypeError, match="lora_droput"):
            plan.to_lora_config(lora_droput=0.1)


@pytest.mark.not_under_mutants
def test_memory_goes_to_estimate_memory_and_says_so():
    model = tiny_model()
    plan = rs.Fixed(4).plan(model)
    with pytest.warns(
        DeprecationWarning, match=r"goes in 0\.3: call rankselect\.estimate_memory\(model, plan"
    ) as caught:
        estimate = plan.memory(model, batch_size=2, length=64)
    assert caught[0].filename == __file__
    assert estimate == estimate_memory(model, plan, batch_size=2, length=64)


class TestAsAValue:
    def test_cannot_be_changed(self, plan):
        for name in ("modules", "strategy"):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(plan, name, ())
        with pytest.raises(dataclasses.FrozenInstanceError):
            plan.modules[0].rank = 5
        plan.ranks["layers.1.q"] = plan.rank_pattern["^head"] = 99
        assert plan.ranks["layers.1.q"] == 2
        assert plan.rank_pattern["^head"] == 1

    def test_copies_and_pickles_are_equal(self, plan):
        for twin in (copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
            assert twin == plan
            assert hash(twin) == hash(plan)
        assert plan != dataclasses.replace(plan, strategy="Other()")

    @pytest.mark.parametrize("rank", [0, -1, 17, 2.5, 2.0, True])
    def test_a_rank_outside_the_module_or_not_whole_is_refused(self, rank):
        with pytest.raises(rs.errors.ArgumentError, match=rf"an integer rank from 1 to 16 for q, got {rank}\. Clip"):
            planned("q", rank, 8.0)

    @pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
    def test_an_alpha_that_is_no_scale_is_refused(self, alpha):
        with pytest.raises(rs.errors.ArgumentError, match="a positive alpha for q"):
            planned("q", 1, alpha)

    def test_an_empty_plan_is_refused(self, plan):
        with pytest.raises(rs.errors.ArgumentError, match="a plan of at least one module, got none"):
            dataclasses.replace(plan, modules=())

    def test_a_module_named_twice_is_refused(self, plan):
        with pytest.raises(rs.errors.ArgumentError, match="a plan with each module once, got 1 named twice"):
            dataclasses.replace(plan, modules=(*plan.modules, planned("head", 2, 8.0)))


class TestFile:
    def test_what_is_loaded_equals_what_was_saved(self, plan, tmp_path):
        others = (rs.Fixed(4).plan(tiny_model()), rs.Fixed(3).plan(tiny_model(), alpha_ratio=0.1))
        for number, saved in enumerate((plan, *others)):
            path = tmp_path / f"{number}.json"
            saved.save(path)
            loaded = rs.RankPlan.load(str(path))
            assert loaded == saved
            assert loaded.to_lora_config() == saved.to_lora_config()

    def test_it_can_be_read_by_people_and_other_programs(self, plan, tmp_path):
        plan.save(tmp_path / "plan.json")
        document = json.loads((tmp_path / "plan.json").read_text())
        assert document == json.loads(json.dumps(plan.to_dict()))
        assert (document["format"], document["version"]) == ("rankselect.rank_plan", 1)
        assert document["modules"][-1] == {
            "name": "head",
            "layer": None,
            "d_in": 16,
            "d_out": 24,
            "rank": 1,
            "alpha": 8.0,
        }

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d.update(version=3), r"got .*plan\.json of version 3\. Upgrade rankselect"),
            (lambda d: d.update(version=None), "of version None"),
            (lambda d: d.update(format="rankselect.id_profile"), "whose format is 'rankselect.id_profile'. Give"),
            (lambda d: d.pop("strategy"), "a field 'strategy' of type str, got none in"),
            (lambda d: d.update(modules={}), "a field 'modules' of type list, got {} in"),
            (lambda d: d.update(modules=[]), "a plan of at least one module, got none in .*damaged"),
            (lambda d: d["modules"].append(d["modules"][0]), "each module once, got 1 named twice in .*damaged"),
            (lambda d: d["modules"].append("head"), "modules that are JSON objects, got 'head' in"),
            (lambda d: d["modules"][0].update(rank="2"), "a field 'rank' of type int, got '2' in"),
            (
                lambda d: d["modules"][0].update(rank=0),
                "an integer rank from 1 to 16 for layers.1.q, got 0 in .*damaged",
            ),
            (lambda d: d["modules"][0].update(rank=True), "a field 'rank' of type int, got True in"),
            (
                lambda d: d["modules"][0].update(rank=99),
                "an integer rank from 1 to 16 for layers.1.q, got 99 in .*damaged",
            ),
            (
                lambda d: d["modules"][0].update(d_in=-4),
                "an integer rank from 1 to -4 for layers.1.q, got 2 in .*damaged",
            ),
            (lambda d: d["modules"][0].update(alpha=float("nan")), "a field 'alpha' of type int or float, got nan in"),
            (lambda d: d["modules"][0].pop("layer"), "a field 'layer' of type str or NoneType, got none in"),
            (lambda d: d["modules"][0].pop("d_out"), "a field 'd_out' of type int, got none in"),
        ],
    )
    def test_a_damaged_file_is_named_with_what_is_wrong(self, plan, tmp_path, change, message):
        path = tmp_path / "plan.json"
        plan.save(path)
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))
        with pytest.raises(rs.errors.FileFormatError, match=message):
            rs.RankPlan.load(path)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[1]", b"null"])
    def test_what_is_no_plan_at_all(self, tmp_path, content):
        path = tmp_path / "plan.json"
        path.write_bytes(content)
        with pytest.raises(
            rs.errors.FileFormatError, match=r"a rankselect\.rank_plan file \(JSON, version 2 or older\), got"
        ):
            rs.RankPlan.load(path)

    def test_a_truncated_file(self, plan, tmp_path):
        path = tmp_path / "plan.json"
        plan.save(path)
        path.write_text(path.read_text()[:-40])
        with pytest.raises(
            rs.errors.FileFormatError, match=r"which is not JSON .* It is damaged or truncated: create it again"
        ):
            rs.RankPlan.load(path)

    def test_a_missing_file_is_the_systems_own_error(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            rs.RankPlan.load(tmp_path / "nothing.json")
