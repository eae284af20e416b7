"""The door to PEFT: each name that PEFT does not promise means what we rely on, and one that is gone is an error."""

from __future__ import annotations

import sys

import peft
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners import tuners_utils
from peft.tuners.lora import layer as lora_layer
from peft.utils import other as peft_other
from safetensors.torch import load_file
from torch import nn

import rankselect as rs
from architectures import FAMILIES
from rankselect.adapters.lora_delta import resolved
from rankselect.errors import IncompatibleVersionError
from rankselect.plan import _peft
from rankselect.plan._peft import PEFT, PREFIX, built, is_of_fused_experts, lora_layers, parameter_name, set_factors
from rankselect.testing import tiny_model

CONVERSION = "peft.utils.transformers_weight_conversion"
redirects = pytest.mark.skipif(_peft._installed() < _peft._REDIRECTS_SINCE, reason="this release redirects nothing")

LLAMA = tiny_model()
Q0 = "model.layers.0.self_attn.q_proj"


def still(kept, name):
    """Fail with the release that is known to keep this."""
    assert kept, str(PEFT.error(name))


def adapted(target_modules=("q_proj",), **arguments):
    config = LoraConfig(r=2, lora_alpha=6, target_modules=list(target_modules), **arguments)
    return get_peft_model(tiny_model(), config)


class TestMeaning:
    """What each name does in the installed release. A failure here is news of PEFT: mend the door, then its `known`."""

    @pytest.mark.parametrize(
        ("target_modules", "name", "is_target"),
        [
            (["q_proj"], "layers.1.q_proj", True),
            (["1.q_proj"], "layers.1.q_proj", True),
            (["1.q_proj"], "layers.11.q_proj", False),
            (["q_proj"], "layers.1.xq_proj", False),
            (["q_proj"], "layers.1.q_proj.inner", False),
            (["layers"], "layers.1.q_proj", False),
            (r".*\.q_proj", "layers.1.q_proj", True),
            (r"q_proj", "layers.1.q_proj", False),
            (r"layers\.1", "layers.1.q_proj", False),
        ],
    )
    def test_lists_match_at_the_end_and_expressions_match_as_a_whole(self, target_modules, name, is_target):
        found = bool(_peft.target_rule()(LoraConfig(target_modules=target_modules), name))
        still(found is is_target, "check_target_module_exists")

    def test_the_rule_knows_the_other_settings_of_targets(self):
        rule = _peft.target_rule()
        excluded = LoraConfig(target_modules=["q_proj"], exclude_modules=["layers.1.q_proj"])
        chosen = LoraConfig(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern="layers")
        found = [bool(rule(config, f"h.layers.{i}.q_proj")) for config in (excluded, chosen) for i in (0, 1)]
        still(found == [True, False, False, True], "check_target_module_exists")

    @pytest.mark.parametrize(("last", "refused"), [("out_proj", True), ("in_proj", False), ("x_proj", False)])
    def test_mambas_dead_modules_are_known(self, last, refused):
        name = f"backbone.layers.0.mixer.{last}"
        still(bool(_peft.refused(FAMILIES["mamba"](), [name])) is refused, "_check_lora_target_modules_mamba")

    def test_the_defaults_are_names_by_model_type(self):
        default = _peft.default_target_modules(LLAMA)
        still(set(default) == {"q_proj", "v_proj"}, "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING")
        nameless = _peft.default_target_modules(nn.Linear(2, 2))
        still(nameless is None, "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING")

    @redirects
    def test_names_of_experts_are_redirected_to_their_fused_parameter(self):
        model = FAMILIES["deepseek_v3"]()
        name = "model.layers.1.mlp.shared_experts.up_proj"
        still(name in _peft.refused(model, [name]), "convert_peft_config_for_transformers")
        named = _peft.matching(["up_proj"], [module for module, _ in model.named_modules()])
        still(_peft.adapted(["up_proj"], model) != named, "convert_peft_config_for_transformers")
        kept = "model.layers.1.self_attn.o_proj"
        still(not _peft.refused(model, [kept]), "convert_peft_config_for_transformers")

    def test_patterns_match_at_the_end_first_match_first(self):
        pattern = {r"1\.q": 3, "q": 4, "^layers.0.v": 5}
        names = ("layers.1.q", "layers.2.q", "layers.11.q", "xq", "layers.0.v", "x.layers.0.v")
        found = [_peft.pattern_value(pattern, name, 0) for name in names]
        still(found == [3, 4, 4, 0, 5, 0], "get_pattern_key")

    def test_layers_keep_their_adapters_by_name(self):
        model = adapted(["q_proj", "embed_tokens"], rank_pattern={"0.self_attn.q_proj": 3}, use_rslora=True)
        model.add_adapter("other", LoraConfig(r=5, target_modules=["k_proj"]))
        layers = lora_layers(model)
        assert sorted(layers) == sorted(
            {f"model.layers.{i}.self_attn.{kind}_proj" for i in (0, 1) for kind in "qk"} | {"model.embed_tokens"}
        )
        still(built(layers[Q0], "default") == _peft.BuiltLayer(3, 6, 6 / 3**0.5, 3), "LoraLayer")
        embedding = built(layers["model.embed_tokens"], "default")
        still(embedding == _peft.BuiltLayer(2, 6, 6 / 2**0.5, 2), "LoraLayer")
        still(built(layers[Q0], "other") is None, "LoraLayer.r")
        still(built(layers["model.layers.1.self_attn.k_proj"], "other").rank == 5, "LoraLayer.r")
        active = [_peft.active_adapters(layer) for layer in layers.values()]
        still(active == [{"default"}] * len(layers), "LoraLayer.active_adapters")

    @pytest.mark.parametrize("name", [Q0, "model.embed_tokens"])
    def test_the_factors_of_a_layer_are_what_it_adds(self, name):
        model = adapted([name])
        layer = lora_layers(model)[name]
        generator = torch.Generator().manual_seed(0)
        d_in, d_out = (32, 32) if name == Q0 else (25, 32)
        a, b = (nn.Parameter(torch.randn(*shape, generator=generator)) for shape in ((2, d_in), (d_out, 2)))
        set_factors(layer, a, b)
        still(all(x is y for x, y in zip(_peft.factors(layer), (a, b), strict=True)), "LoraLayer.lora_A")
        inputs = torch.randn(4, 32, generator=generator) if name == Q0 else torch.arange(4)
        with torch.no_grad():
            added = layer(inputs) - layer.get_base_layer()(inputs)
            rows = inputs @ a.T if name == Q0 else a.T[inputs]
        still(torch.allclose(added, 3 * rows @ b.T, atol=1e-5), "LoraLayer.lora_A")

    @pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
    def test_the_weight_is_the_one_that_the_module_computes_with(self, quantization, tmp_path):
        FAMILIES["llama"]().save_pretrained(tmp_path)
        layer = rs.load_model(tmp_path, quantization=quantization, dtype="float32").model.layers[0].mlp.up_proj
        inputs = torch.eye(layer.in_features)
        with torch.no_grad():
            columns = layer(inputs).T.float()
        close = torch.allclose(_peft.weight(layer).float(), columns, atol=0.02 * float(columns.abs().max()))
        still(close, "dequantize_module_weight")

    @pytest.mark.parametrize("name", ["transformer.h.0.attn.c_attn", "transformer.wte"])
    def test_weights_of_other_layouts_are_turned(self, name):
        module = tiny_model("gpt2").get_submodule(name)
        inputs = torch.eye(32) if "attn" in name else torch.arange(module.num_embeddings)
        with torch.no_grad():
            outputs = module(inputs) - getattr(module, "bias", torch.zeros(1))
        torch.testing.assert_close(_peft.weight(module), outputs.T, atol=1e-6, rtol=0)

    def test_a_parameter_of_several_experts_is_told_from_a_module(self):
        config = LoraConfig(r=2, target_modules=["q_proj"], target_parameters=["experts.down_proj"])
        layers = lora_layers(get_peft_model(FAMILIES["mixtral"](), config))
        kinds = {name.rsplit(".", 1)[-1]: is_of_fused_experts(layer) for name, layer in layers.items()}
        still(kinds == {"q_proj": False, "experts": True}, "ParamWrapper")

    def test_names_in_the_model_and_in_the_file_lead_back_to_the_base(self, tmp_path):
        model = adapted(modules_to_save=["lm_head"], bias="all")
        names = {parameter_name(name) for name, _ in model.named_parameters() if "lora_" not in name}
        still(names == {name for name, _ in LLAMA.named_parameters()}, PREFIX)
        model.save_pretrained(tmp_path)
        keys = load_file(tmp_path / "adapter_model.safetensors").keys()
        wanted = {f"{PREFIX}model.layers.{i}.self_attn.q_proj.lora_{ab}.weight" for i in (0, 1) for ab in "AB"}
        still(keys == wanted | {f"{PREFIX}lm_head.weight"}, PREFIX)


def plan():
    rs.Fixed(2).plan(LLAMA)


@pytest.fixture
def merge(tmp_path):
    LLAMA.save_pretrained(tmp_path / "base")
    adapted().save_pretrained(tmp_path / "adapter")
    return lambda: rs.merge_adapter(tmp_path / "adapter", tmp_path / "out", base=tmp_path / "base", progress=False)


class TestGone:
    """A name that PEFT took away is an error that names it, and the release that is known to have it."""

    @staticmethod
    def missed(call, name):
        with pytest.raises(IncompatibleVersionError) as caught:
            call()
        message = str(caught.value)
        assert name in caught.value.expected
        assert f"as in release {PEFT.known}, got release {peft.__version__}, where it is missing" in message
        assert f'pip install "peft=={PEFT.known}"' in message

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("peft.tuners.tuners_utils", "check_target_module_exists"),
            ("peft.tuners.tuners_utils", "_check_lora_target_modules_mamba"),
            pytest.param(CONVERSION, "convert_peft_config_for_transformers", marks=redirects),
            ("peft.utils", "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING"),
            ("peft.tuners.lora.layer", "LoraLayer"),
        ],
    )
    def test_from_planning(self, monkeypatch, module, name):
        plan()
        monkeypatch.delattr(f"{module}.{name}")
        self.missed(plan, name)

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("peft.tuners.tuners_utils", "check_target_module_exists"),
            ("peft.tuners.tuners_utils", "_check_lora_target_modules_mamba"),
            pytest.param(CONVERSION, "convert_peft_config_for_transformers", marks=redirects),
        ],
    )
    def test_arguments_of_planning(self, monkeypatch, module, name):
        monkeypatch.setattr(f"{module}.{name}", lambda anything: anything)
        self.missed(plan, name)

    @redirects
    def test_the_module_of_redirections(self, monkeypatch):
        monkeypatch.setitem(sys.modules, CONVERSION, None)
        self.missed(plan, "convert_peft_config_for_transformers")

    def test_redirections_are_not_looked_for_before_release_0_19(self, monkeypatch):
        monkeypatch.setitem(sys.modules, CONVERSION, None)
        monkeypatch.setattr(_peft, "version", lambda _: "0.18.1")
        plan()

    def test_the_rule_of_patterns(self, monkeypatch):
        monkeypatch.delattr(peft_other, "get_pattern_key")
        self.missed(lambda: resolved(LoraConfig(), Q0), "get_pattern_key")

    @pytest.mark.parametrize("name", ["r", "lora_alpha", "scaling", "lora_A", "lora_embedding_A"])
    def test_what_layers_keep_by_adapter(self, name):
        model = adapted()
        for layer in lora_layers(model).values():
            delattr(layer, name)
        self.missed(lambda: rs.Fixed(2).plan(LLAMA, target_modules=["q_proj"]).verify(model), name)

    def test_dequantized_weights(self, monkeypatch):
        monkeypatch.delattr("peft.utils.integrations.dequantize_module_weight")
        self.missed(lambda: _peft.weight(nn.Linear(2, 2)), "dequantize_module_weight")

    def test_the_active_adapters_of_layers(self, monkeypatch):
        model = adapted()
        monkeypatch.delattr(tuners_utils.BaseTunerLayer, "active_adapters")
        self.missed(lambda: rs.Fixed(2).plan(LLAMA).verify(model), "active_adapters")

    def test_the_wrapper_of_fused_experts_when_merging(self, monkeypatch, merge):
        monkeypatch.delattr(lora_layer, "ParamWrapper")
        self.missed(merge, "ParamWrapper")
