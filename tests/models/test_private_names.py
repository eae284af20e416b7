"""The names that transformers, accelerate and bitsandbytes do not promise to keep: there, and of the known meaning.

One test for each group says so loudly when a new release has changed it. The others take a name away and see that
rankselect says so too, instead of going on with something else.
"""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import accelerate
import bitsandbytes as bnb
import peft
import pytest
import torch
import transformers as tf
from bitsandbytes.functional import has_avx512bf16
from safetensors import safe_open
from torch import nn
from transformers import conversion_mapping, core_model_loading
from transformers.quantizers import AutoHfQuantizer, quantizers_utils
from transformers.quantizers import base as quantizers_base

from private_names import gone, known
from rankselect.models import _transformers as door
from rankselect.models._transformers import ACCELERATE, BITSANDBYTES, TRANSFORMERS
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.loading import empty_model, load_model
from rankselect.models.quantized_layers import (
    bitsandbytes_config,
    count_parameters,
    keep_as_quantized,
    prepare_for_training,
    quantization_of,
)
from rankselect.testing import tiny_model
from training.test_trainer import make_trainer

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 40}
IDS = torch.tensor([[3, 4, 5, 6]])


def four_bit(d_in=64, d_out=64):
    return bnb.nn.Linear4bit(d_in, d_out, bias=False, quant_type="nf4", compute_dtype=torch.float32).to("cpu")


def eight_bit(d_in=64, d_out=64):
    return bnb.nn.Linear8bitLt(d_in, d_out, bias=False, has_fp16_weights=False).to("cpu")


class TestKeysOfCheckpoints:
    """How transformers renames what a checkpoint holds."""

    def test_the_rules_of_renaming(self, tmp_path):
        what = "conversion_mapping.get_model_conversion_mapping and core_model_loading.rename_source_key"
        with known(TRANSFORMERS, what):
            head = empty_model(tf.GPT2Config(n_layer=1, n_embd=32, n_head=2, architectures=["GPT2LMHeadModel"]))
            renamed = door.renaming(head)
            own = "transformer.h.0.attn.c_attn.weight"
            assert renamed("h.0.attn.c_attn.weight") == renamed(own) == (own, False)

            experts = tf.MixtralForCausalLM(tf.MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=2))
            experts.save_pretrained(tmp_path)
            renamed, names = door.renaming(experts), experts.state_dict()
            with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
                found = {key: renamed(key) for key in file.keys()}  # noqa: SIM118  (no dictionary)
            assert {name for name, _ in found.values()} == set(names)
            assert {key for key, (_, several) in found.items() if several} == {key for key in found if "w1" in key} | {
                key for key in found if "w2" in key or "w3" in key
            }
            assert found["model.layers.0.block_sparse_moe.gate.weight"] == ("model.layers.0.mlp.gate.weight", False)

    @pytest.mark.parametrize("name", ["rename_source_key", "WeightRenaming", "WeightConverter"])
    def test_a_name_that_is_gone(self, name, monkeypatch):
        monkeypatch.delattr(core_model_loading, name)
        with gone(TRANSFORMERS, name):
            door.renaming(tiny_model())

    def test_other_parameters_or_rules_of_another_kind(self, monkeypatch):
        def other(source_key, converters, renamings, prefix, names):
            raise NotImplementedError

        monkeypatch.setattr(core_model_loading, "rename_source_key", other)
        with gone(TRANSFORMERS, "rename_source_key(source_key, weight_renamings"):
            door.renaming(tiny_model())
        monkeypatch.undo()
        monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", lambda model: [object()])
        with gone(TRANSFORMERS, "conversions that are renamings and converters alone"):
            door.renaming(tiny_model())


class TestBuilding:
    """Models from a config alone."""

    def test_a_class_builds_a_model_in_a_dtype(self):
        with known(TRANSFORMERS, "PreTrainedModel._from_config(config, dtype=)"), torch.device("meta"):
            built = door.build(tf.LlamaForCausalLM, tf.LlamaConfig(**SIZES), torch.bfloat16)
            assert {parameter.dtype for parameter in built.parameters()} == {torch.bfloat16}

    def test_it_is_gone(self, monkeypatch):
        monkeypatch.delattr(tf.PreTrainedModel, "_from_config")
        with gone(TRANSFORMERS, "LlamaForCausalLM._from_config"):
            empty_model(tf.LlamaConfig(**SIZES, architectures=["LlamaForCausalLM"]))

    def test_code_that_comes_with_a_model(self, tmp_path, monkeypatch):
        (tmp_path / "configuration_own.py").write_text(
            "from transformers import PreTrainedConfig\nclass OwnConfig(PreTrainedConfig):\n    model_type = 'own'\n"
        )
        (tmp_path / "config.json").write_text(
            '{"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}'
        )
        with known(TRANSFORMERS, "utils.TRANSFORMERS_DYNAMIC_MODULE_NAME"):
            assert door.is_remote_code(tf.AutoConfig.from_pretrained(tmp_path, trust_remote_code=True))
            assert not door.is_remote_code(tf.LlamaConfig())
        monkeypatch.delattr(tf.utils, "TRANSFORMERS_DYNAMIC_MODULE_NAME")
        with gone(TRANSFORMERS, "TRANSFORMERS_DYNAMIC_MODULE_NAME"):
            empty_model(tf.LlamaConfig(**SIZES))


class TestWhatIsQuantized:
    """Which modules bitsandbytes gets to see, and its layers."""

    CONFIGS = (
        tf.LlamaConfig(**SIZES, architectures=["LlamaForCausalLM"]),
        tf.LlamaConfig(**SIZES, tie_word_embeddings=True, architectures=["LlamaForCausalLM"]),
        tf.GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=40, architectures=["GPT2LMHeadModel"]),
        tf.T5Config(d_model=32, d_ff=64, num_layers=1, architectures=["T5ForConditionalGeneration"]),
        tf.FalconConfig(**SIZES, architectures=["FalconForCausalLM"]),
        tf.BertConfig(**SIZES, architectures=["BertForSequenceClassification"]),
        tf.MixtralConfig(**SIZES, num_local_experts=2, num_key_value_heads=2, architectures=["MixtralForCausalLM"]),
    )

    @pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
    def test_the_modules_are_those_that_transformers_replaces(self, config):
        what = "get_keys_to_not_convert, should_convert_module and _keep_in_fp32_modules"
        with known(TRANSFORMERS, what):
            found = door.modules_to_quantize(empty_model(config))
            model = empty_model(config)
            quantizer = AutoHfQuantizer.from_config(bitsandbytes_config("nf4"), pre_quantized=False)
            quantizer.preprocess_model(model, device_map=None)
            assert found == [name for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)]
            assert bool(found) is (config.model_type != "falcon")  # whose layers are of a subclass

    @pytest.mark.parametrize(
        ("owner", "name"),
        [
            (quantizers_base, "get_keys_to_not_convert"),
            (quantizers_utils, "should_convert_module"),
            (tf.pytorch_utils, "Conv1D"),
        ],
    )
    def test_a_name_that_is_gone(self, owner, name, monkeypatch):
        monkeypatch.delattr(owner, name)
        with gone(TRANSFORMERS, name):
            door.modules_to_quantize(tiny_model())

    def test_the_modules_in_full_precision_are_gone(self, monkeypatch):
        model = tiny_model()
        monkeypatch.delattr(tf.PreTrainedModel, "_keep_in_fp32_modules")
        monkeypatch.delitem(vars(model), "_keep_in_fp32_modules", raising=False)
        with gone(TRANSFORMERS, "_keep_in_fp32_modules"):
            door.modules_to_quantize(model)

    def test_layers_are_recognised(self):
        adapted = peft.get_peft_model(
            nn.Sequential(four_bit()), peft.LoraConfig(r=2, target_modules=["0"])
        ).base_model.model[0]
        with known(BITSANDBYTES, "nn.Linear4bit, nn.Linear8bitLt and nn.Params4bit"):
            layers = (four_bit(), bnb.nn.LinearNF4(64, 64), eight_bit(), nn.Linear(4, 4), adapted)
            assert [door.bits_of(layer) for layer in layers] == [4, 4, 8, None, None]
            assert door.bits_of(adapted.base_layer) == 4
            assert [quantization_of(layer) for layer in layers[:4]] == ["nf4", "nf4", "int8", "none"]
            assert count_parameters(four_bit(64, 128)) == 64 * 128

    def test_no_layer_is_quantized_before_bitsandbytes_is_imported(self, monkeypatch):
        monkeypatch.delitem(sys.modules, "bitsandbytes.nn")
        assert door.bits_of(nn.Linear(4, 4)) is None
        assert not door.is_packed(nn.Linear(4, 4).weight)

    @pytest.mark.parametrize("name", ["Linear4bit", "Linear8bitLt", "Params4bit"])
    def test_a_class_that_is_gone(self, name, monkeypatch):
        monkeypatch.delattr(bnb.nn, name)
        with gone(BITSANDBYTES, name):
            count_parameters(nn.Linear(4, 4))
            quantization_of(nn.Linear(4, 4))

    def test_the_bytes_of_a_layer(self):
        with known(BITSANDBYTES, "quant_state.absmax, quant_state.state2 and SCB"):
            assert door.stored_bytes(four_bit()) == (64 * 64 // 2, 64 + 4)
            assert door.stored_bytes(eight_bit()) == (64 * 64, 4 * 64)
            assert door.stored_bytes(bnb.nn.Linear4bit(64, 64, device="meta")) is None

    @pytest.mark.parametrize("name", ["quant_state", "absmax", "state2", "SCB"])
    def test_the_scales_are_gone(self, name):
        layer = eight_bit() if name == "SCB" else four_bit()
        owner = layer.weight if name in {"quant_state", "SCB"} else layer.weight.quant_state
        delattr(owner, name)
        with gone(BITSANDBYTES, name):
            door.stored_bytes(layer)


class TestWeightsThatBitsandbytesRepacks:
    """The guard of 4-bit weights on a CPU, which spoils a training silently where it is off."""

    @pytest.mark.skipif(not has_avx512bf16(), reason="bitsandbytes repacks on CPUs with AVX512-BF16")
    def test_the_switch_is_what_keeps_them(self):
        with known(BITSANDBYTES, "Linear4bit.support_avx512bf16_for_cpu and quant_state.packing_format_for_cpu"):
            for kept in (False, True):
                layer = four_bit().eval()
                if kept:
                    keep_as_quantized(layer)
                with torch.no_grad():
                    layer(torch.ones(1, 64))
                assert door.is_repacked(layer) is not kept

    def test_a_release_without_the_switch(self, monkeypatch):
        layer = four_bit()
        del layer.support_avx512bf16_for_cpu
        with gone(BITSANDBYTES, "Linear4bit.support_avx512bf16_for_cpu"):
            keep_as_quantized(nn.Sequential(layer))
        monkeypatch.setattr("rankselect.models.private_names.version", lambda package: "0.48.2")
        keep_as_quantized(layer)  # older releases do not repack

    def test_a_release_without_the_switch_is_no_matter_on_a_gpu(self):
        layer = SimpleNamespace(weight=torch.empty(1, device="meta"))  # stands for any device that is no CPU
        door.keep_from_repacking(layer)
        assert not hasattr(layer, "support_avx512bf16_for_cpu")

    def test_a_state_that_is_gone_is_no_training(self):
        layer = four_bit()
        del layer.weight.quant_state
        with gone(BITSANDBYTES, "quant_state"):
            prepare_for_training(nn.Sequential(layer), gradient_checkpointing=False)


def test_the_line_that_8_bit_layers_log_at_each_call(caplog):
    logger = logging.getLogger("bitsandbytes.autograd._functions")
    for known_filter in list(logger.filters):
        logger.removeFilter(known_filter)
    layer, lines = eight_bit().eval(), []
    with known(BITSANDBYTES, "a line logged by bitsandbytes.autograd._functions at each cast of an 8-bit layer"):
        for quiet in (False, True):
            if quiet:
                keep_as_quantized(layer)
            caplog.clear()
            with torch.no_grad():
                layer(torch.ones(1, 64))
                layer(torch.ones(1, 64))
            lines.append(len([record for record in caplog.records if "will be cast" in record.message]))
        assert lines == [2, 1]


class TestCheckpointing:
    """The flags of modules that compute activations twice."""

    def test_the_flags_are_what_counts(self, monkeypatch):
        model = tiny_model().train()
        layer, calls = model.model.layers[0].self_attn, []
        layer.register_forward_hook(lambda *_: calls.append(1))

        def forwards():
            calls.clear()
            model(input_ids=IDS, labels=IDS).loss.backward()
            return len(calls)

        with known(TRANSFORMERS, "modules' gradient_checkpointing"):
            assert forwards() == 1
            door.enable_checkpointing(model)
            assert forwards() == 2
            stopped = door.stop_checkpointing(model)
            assert forwards() == 1
            assert model.model.layers[0] in stopped
            door.resume_checkpointing(stopped)
            assert forwards() == 2

    @pytest.mark.filterwarnings("error::FutureWarning")
    def test_no_warning_of_a_new_name_reaches_the_user(self, tmp_path):
        make_trainer(tmp_path, changes={**door.checkpointing(on=True), "max_steps": 1}).train()
        model = load_model(tiny_model(), trainable=True, gradient_checkpointing=True)
        with evaluating(model):
            assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        assert model.model.layers[0].gradient_checkpointing

    @pytest.mark.parametrize("stays", [True, False])
    def test_flags_of_another_name(self, stays, monkeypatch):
        """transformers itself says that checkpointing is on though we switched it off, or off though switched on."""
        monkeypatch.setattr(tf.PreTrainedModel, "is_activation_checkpointing", property(lambda _: stays), raising=False)
        model = tiny_model()
        with gone(TRANSFORMERS, "modules' gradient_checkpointing"):
            if stays:
                evaluating(model).__enter__()
            else:
                load_model(model, trainable=True, gradient_checkpointing=True)

    def test_the_argument_of_the_trainer(self, tmp_path, monkeypatch):
        with known(TRANSFORMERS, "TrainingArguments(activation_checkpointing=)"):
            for enabled in (True, False):
                arguments = tf.TrainingArguments(str(tmp_path), **door.checkpointing(on=enabled))
                assert door.recomputes_activations(arguments) is enabled
        for name in ("activation_checkpointing", "gradient_checkpointing"):
            monkeypatch.delattr(tf.TrainingArguments, name, raising=False)
        with gone(TRANSFORMERS, "TrainingArguments.gradient_checkpointing"):
            door.checkpointing(on=True)

    def test_a_method_that_is_gone(self, monkeypatch):
        for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):
            monkeypatch.delattr(tf.PreTrainedModel, name, raising=False)
        with gone(TRANSFORMERS, "gradient_checkpointing_enable"):
            load_model(tiny_model(), trainable=True, gradient_checkpointing=True)


def test_the_device_of_offloaded_weights(tmp_path):
    model = tiny_model()
    assert door.execution_device(model) is None
    with known(ACCELERATE, "a hook _hf_hook with an execution_device"):
        offloaded = accelerate.disk_offload(model, tmp_path, execution_device="cpu")
        assert door.execution_device(offloaded) == torch.device("cpu")
    for module in offloaded.modules():
        vars(module).pop("_hf_hook", None)
    offloaded.hf_device_map = {"": "disk"}
    with gone(ACCELERATE, "_hf_hook"):
        door.execution_device(offloaded)


def test_the_methods_of_the_trainer(tmp_path, monkeypatch):
    with known(TRANSFORMERS, "Trainer._save_checkpoint(model, trial) and Trainer.model_accepts_loss_kwargs"):
        trainer = make_trainer(tmp_path)
        door.check_trainer(trainer)
        del trainer.model_accepts_loss_kwargs
    with gone(TRANSFORMERS, "model_accepts_loss_kwargs"):
        door.check_trainer(trainer)
    monkeypatch.delattr(tf.Trainer, "_save_checkpoint")
    with gone(TRANSFORMERS, "Trainer._save_checkpoint"):
        make_trainer(tmp_path)
