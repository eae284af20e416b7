"""Models by name: the class that the config names, with and without weights, and every way in which it fails;
models in 4 and 8 bits, generated from and trained."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, BertModel, LlamaForCausalLM, ViTConfig, ViTModel

import rankselect as rs
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.loading import empty_model, load_model, load_tokenizer
from rankselect.models.quantized_layers import quantization_of
from rankselect.testing import tiny_model, tiny_tokenizer
from rankselect.training.generation import generate_answers

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tiny Llama and its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def damaged(model, tmp_path):
    """A copy of the model to damage."""
    return shutil.copytree(model, tmp_path / "model")


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_with_and_without_weights_it_is_the_same_model(model):
    full, empty = load_model(str(model)), empty_model(str(model))
    assert type(full) is type(empty) is LlamaForCausalLM
    assert [name for name, _ in full.named_modules()] == [name for name, _ in empty.named_modules()]
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    assert rs.Fixed(4).plan(full) == rs.Fixed(4).plan(empty)


@pytest.mark.parametrize(
    ("architectures", "kind"),
    [(["BertForSequenceClassification"], BertForSequenceClassification), (None, BertModel), (["pipeline"], BertModel)],
)
def test_the_class_is_the_one_that_the_config_names(tmp_path, architectures, kind):
    BertConfig(**SIZES, vocab_size=50).save_pretrained(tmp_path)
    change_config(tmp_path, architectures=architectures)
    assert type(empty_model(str(tmp_path))) is kind


def test_dtype_and_quantization(model):
    assert load_model(model, dtype="bfloat16").dtype == torch.bfloat16
    assert quantization_of(load_model(model)) == "none"
    pytest.importorskip("bitsandbytes")
    for quantization, kind in (("nf4", "Linear4bit"), ("int8", "Linear8bitLt")):
        loaded = load_model(str(model), quantization=quantization)
        assert type(loaded.model.layers[0].mlp.up_proj).__name__ == kind
        assert quantization_of(loaded) == quantization


def test_quantization_needs_an_extra(model, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(rs.errors.MissingExtraError, match=r'pip install "rankselect\[quantized\]"'):
        load_model(str(model), quantization="nf4")


def test_random_weights_in_a_layer_are_reported(damaged):
    weights = load_file(damaged / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(rs.RankSelectWarning, match=r"lacks 1 weights .* model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(damaged))


def test_a_random_head_is_not_reported(tmp_path, recwarn):
    BertModel(BertConfig(**SIZES, vocab_size=50)).save_pretrained(tmp_path)
    change_config(tmp_path, architectures=["BertForSequenceClassification"])
    assert type(load_model(str(tmp_path))) is BertForSequenceClassification
    assert not [warning for warning in recwarn if warning.category is rs.RankSelectWarning]


def fails(name, message, load=load_model):
    with pytest.raises(rs.errors.ModelError, match=message):
        load(str(name))


def test_a_folder_that_does_not_exist(tmp_path):
    fails(tmp_path / "nowhere", "nowhere, which does not exist. Check the path")


def test_a_file_instead_of_a_folder(model):
    fails(model / "config.json", "which is a file")


def test_a_folder_without_a_model(tmp_path):
    fails(tmp_path, r"which has no config\.json")


def test_an_adapter_instead_of_a_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    fails(tmp_path, "which holds an adapter. Give the folder or name of its base model")


def test_a_damaged_config(damaged):
    (damaged / "config.json").write_text("{")
    fails(damaged, "not a valid JSON file. The folder is damaged")


def test_an_unknown_model_type(damaged):
    change_config(damaged, model_type="llama99")
    for load in (load_model, empty_model, load_tokenizer):
        fails(damaged, r"`llama99`.*Upgrade transformers, or add trust_remote_code=True \(--trust-remote-code\)", load)


def test_code_that_comes_with_the_model_is_not_run_unasked(damaged):
    (damaged / "configuration_own.py").write_text("raise SystemExit('it ran')")
    change_config(damaged, model_type="own", auto_map={"AutoConfig": "configuration_own.OwnConfig"})
    fails(damaged, r"Add trust_remote_code=True \(--trust-remote-code\) if you trust the code", empty_model)


def test_missing_and_damaged_weights(damaged):
    (damaged / "model.safetensors").write_bytes(b"damaged")
    fails(damaged, "weights that can be loaded.*The folder is damaged")
    (damaged / "model.safetensors").unlink()
    fails(damaged, r"no file named model\.safetensors.*The folder is damaged or incomplete")


def test_a_damaged_tokenizer(damaged):
    (damaged / "tokenizer.json").write_text("{")
    fails(damaged, "whose tokenizer cannot be loaded", load_tokenizer)


def test_a_vision_model_has_no_tokenizer(tmp_path):
    ViTModel(ViTConfig(**SIZES)).save_pretrained(tmp_path)
    fails(tmp_path, "Models of images or audio have none: profile them in Python", load_tokenizer)
    assert rs.layer_names(empty_model(str(tmp_path)))


def test_weights_of_another_shape(damaged):
    change_config(damaged, intermediate_size=32)
    fails(damaged, "weights that can be loaded.*The folder is damaged")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_device_that_is_not_there(model):
    with pytest.raises(rs.errors.ModelError, match="CUDA.*Choose another device_map, for example cpu"):
        load_model(model, device_map="cuda:0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "int4"}, "expected none, nf4 or int8 for quantization, got 'int4'"),
        ({"dtype": "float8"}, "expected auto, float32, bfloat16 or float16 for dtype, got 'float8'"),
        ({"gradient_checkpointing": True}, "expected gradient_checkpointing with trainable=True"),
    ],
)
def test_unknown_arguments(model, arguments, message):
    with pytest.raises(rs.errors.ArgumentError, match=message):
        load_model(model, **arguments)


def test_a_model_that_does_not_fit_into_memory(model, monkeypatch):
    def from_pretrained(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(
        rs.errors.OutOfMemoryError, match=r'too little \(CUDA out of memory\). Load it with quantization="nf4"'
    ):
        load_model(model)


def test_a_built_model_is_passed_through():
    built = tiny_model()
    before = {name: parameter.requires_grad for name, parameter in built.named_parameters()}
    assert load_model(built) is built
    assert load_model(built, trainable=True) is built
    assert {name: parameter.requires_grad for name, parameter in built.named_parameters()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "nf4"}, "a model to load in nf4, got a model built in full precision. Quantisation happens"),
        ({"dtype": "bfloat16"}, "dtype for a model that is loaded by name, got 'bfloat16' for one that was built"),
        ({"device_map": "cpu"}, "device_map for a model that is loaded by name"),
    ],
)
def test_a_built_model_is_not_changed_by_loading(arguments, message):
    with pytest.raises(rs.errors.ArgumentError, match=message):
        load_model(tiny_model(), **arguments)


def test_gradient_checkpointing_in_full_precision():
    built = load_model(tiny_model(), trainable=True, gradient_checkpointing=True)
    assert all(layer.gradient_checkpointing for layer in built.model.layers)


def test_a_model_without_gradient_checkpointing(monkeypatch):
    built = tiny_model()
    monkeypatch.setattr(type(built), "supports_gradient_checkpointing", False)
    with pytest.raises(rs.errors.ModelError, match="a LlamaForCausalLM without"):
        load_model(built, trainable=True, gradient_checkpointing=True)


class TestQuantized:
    """What training needs of models in 4 and 8 bits."""

    IDS = torch.tensor([[3, 4, 5, 6, 7, 8]])

    @pytest.fixture(autouse=True)
    def _bitsandbytes(self):
        pytest.importorskip("bitsandbytes")

    @pytest.fixture(params=["nf4", "int8"])
    def quantization(self, request):
        return request.param

    def adapted(self, name, **arguments):
        base = load_model(name, trainable=True, device_map="cpu", **arguments)
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        return get_peft_model(base, config)

    def gradients(self, adapted):
        adapted.train()
        adapted.zero_grad()
        adapted(input_ids=self.IDS, labels=self.IDS).loss.backward()
        return {name: part.grad.clone() for name, part in adapted.named_parameters() if part.requires_grad}

    def test_the_base_is_frozen_and_the_rest_is_float32(self, model, quantization):
        loaded = load_model(model, quantization=quantization, dtype="bfloat16", trainable=True)
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        assert loaded.get_input_embeddings().weight.dtype == loaded.model.norm.weight.dtype == torch.float32
        assert not any(layer.gradient_checkpointing for layer in loaded.model.layers)

    def test_checkpointing_changes_no_gradient(self, model, quantization):
        plain = self.gradients(self.adapted(model, quantization=quantization))
        again = self.gradients(self.adapted(model, quantization=quantization, gradient_checkpointing=True))
        assert all(torch.equal(plain[name], again[name]) for name in plain)
        assert any(gradient.abs().max() > 0 for gradient in plain.values())

    def test_an_evaluation_pass_changes_no_gradient(self, model, quantization):
        adapted = self.adapted(model, quantization=quantization)
        before = self.gradients(adapted)
        adapted.eval()
        with torch.no_grad():
            adapted(input_ids=self.IDS)
        after = self.gradients(adapted)
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_a_prepared_model_keeps_the_adapter_trainable(self, model, quantization):
        adapted = self.adapted(model, quantization=quantization)
        trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
        assert load_model(adapted, trainable=True) is adapted
        assert {name for name, parameter in adapted.named_parameters() if parameter.requires_grad} == trainable != set()

    def test_it_saves_and_loads_as_it_is(self, model, quantization, tmp_path):
        loaded = load_model(model, quantization=quantization, device_map="cpu")
        loaded.save_pretrained(tmp_path)
        again = load_model(tmp_path, device_map="cpu")
        assert quantization_of(again) == quantization
        with torch.no_grad():
            assert torch.equal(loaded(self.IDS).logits, again(self.IDS).logits)
        with pytest.raises(rs.errors.ArgumentError, match="whose weights are stored quantised"):
            load_model(tmp_path, quantization=quantization)

    def test_another_quantisation_of_a_built_model(self, model):
        loaded = load_model(model, quantization="nf4")
        assert load_model(loaded, quantization="nf4") is loaded
        with pytest.raises(rs.errors.ArgumentError, match="a model to load in int8, got a model built in nf4"):
            load_model(loaded, quantization="int8")

    def test_8_bit_layers_note_a_cast_once(self, model, caplog):
        logger = logging.getLogger("bitsandbytes.autograd._functions")
        for seen in list(logger.filters):  # the line may have been logged in another test
            logger.removeFilter(seen)
        loaded = load_model(model, quantization="int8", device_map="cpu", dtype="float32")
        with torch.no_grad():
            loaded(self.IDS)
            loaded(self.IDS)
        assert sum("inputs will be cast" in record.message for record in caplog.records) == 1
        assert len(logger.filters) == 1

    def test_a_repacked_model_is_not_trained(self, model):
        loaded = load_model(model, quantization="nf4", device_map="cpu")
        loaded.model.layers[0].mlp.up_proj.weight.quant_state.packing_format_for_cpu = True
        with pytest.raises(rs.errors.ModelError, match="repacked in an evaluation pass on the CPU.*Load it again"):
            load_model(loaded, trainable=True)

    def test_models_loaded_by_transformers_are_not_repacked_either(self, model):
        from transformers import BitsAndBytesConfig

        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
        loaded = LlamaForCausalLM.from_pretrained(model, quantization_config=config, device_map="cpu")
        with evaluating(loaded):
            loaded(self.IDS)
        states = [module.quant_state for module in loaded.modules() if type(module).__name__ == "Linear4bit"]
        assert len(states) == 14
        assert not any(getattr(state, "packing_format_for_cpu", False) for state in states)

    @pytest.mark.assets
    def test_generating_between_training_steps(self, assets, quantization):
        """The widths of this model are not multiples of 32, which bitsandbytes needs for its own layout."""
        name = assets / "models" / "stories260k"
        adapted = self.adapted(name, quantization=quantization)
        before = self.gradients(adapted)
        answers = generate_answers(
            adapted, load_tokenizer(name), ["Who was Tom?"], max_new_tokens=8, progress=False, batch_size=1
        )
        assert answers[0].n_tokens == 8
        assert adapted.training
        after = self.gradients(adapted)
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert all(gradient.abs().max() > 0 for gradient in after.values())


def test_bitsandbytes_is_not_needed_in_full_precision(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert load_model(model, trainable=True).num_parameters() > 0


def changed(folder, model, **entries):
    """A saved model whose config says something else; with code of its own if it names some."""
    model.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    if "auto_map" in entries:
        code = "from transformers import GPT2LMHeadModel as Theirs\n\n\nclass Own(Theirs):\n    is_own = True\n"
        (folder / "own.py").write_text(code)
    return folder


@pytest.mark.parametrize("architectures", [None, [], ["NoSuchClass"]])
def test_a_config_without_a_known_class_gives_the_causal_one(tmp_path, architectures):
    folder = changed(tmp_path, tiny_model("gpt2"), architectures=architectures)
    assert type(load_model(folder)).__name__ == "GPT2LMHeadModel"
    assert type(empty_model(folder)).__name__ == "GPT2LMHeadModel"


def test_own_code_is_used_where_it_is_trusted(tmp_path):
    own = {"auto_map": {"AutoModelForCausalLM": "own.Own"}, "architectures": ["GPT2LMHeadModel"]}
    folder = changed(tmp_path, tiny_model("gpt2"), **own)
    assert hasattr(load_model(folder, trust_remote_code=True), "is_own")
    assert not hasattr(load_model(folder), "is_own")


def test_a_class_without_a_head_stays_as_it_is(tmp_path):
    tiny_model().model.save_pretrained(tmp_path)
    assert type(load_model(tmp_path)).__name__ == "LlamaModel"
