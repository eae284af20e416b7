"""`merge_adapter`: the merged folder against PEFT's unmerged adapter, on what real bitsandbytes makes of the base."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GPT2Config, LlamaConfig

from rankselect.adapters.merge import merge_adapter
from rankselect.errors import ArgumentError, RankSelectWarning, UnknownNameError
from rankselect.testing import tiny_texts, tiny_tokenizer

TOKENS = torch.tensor([[3, 7, 1, 12, 5, 9, 20, 2], [4, 4, 8, 15, 6, 11, 0, 10]])
NF4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)
WAYS = ("dequantized", "original", "requantized")
INT8 = BitsAndBytesConfig(load_in_8bit=True)
PATTERNS = {"rank_pattern": {"q_proj": 5, "c_attn": 5}, "alpha_pattern": {"q_proj": 3, "up_proj": 20, "c_fc": 20}}
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:The following:RuntimeWarning"
)


def llama(**changes):
    """Wide enough for bitsandbytes' 4-bit kernels on the CPU."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaConfig(vocab_size=25, num_key_value_heads=2, max_position_embeddings=64, **sizes, **changes)


def gpt2():
    return GPT2Config(vocab_size=25, n_positions=64, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=1)


def save_base(folder, config, dtype=torch.float32, **arguments):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():  # initial weights are so small that nothing would show
            parameter.mul_(4)
    model.save_pretrained(folder, **arguments)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_adapter(folder, base, seed=1, **settings):
    """An adapter that changes a lot: B is random, and so is everything else that trains."""
    torch.manual_seed(seed)
    settings = {"r": 3, "lora_alpha": 6, "target_modules": "all-linear", **settings}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_A" not in name and "lora_embedding_B" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def logits(model):
    model.eval()
    with torch.inference_mode():
        return model(input_ids=TOKENS).logits.float()


def loaded(folder, **arguments):
    return AutoModelForCausalLM.from_pretrained(folder, **{"dtype": torch.float32, **arguments})


def unmerged(base, adapter, quantization=None):
    """PEFT's own logits, on the base or on what transformers quantizes and dequantizes it to."""
    if quantization is None:
        return logits(PeftModel.from_pretrained(loaded(base), adapter))
    model = loaded(base, quantization_config=quantization, device_map={"": "cpu"}).dequantize(torch.float32)
    return logits(PeftModel.from_pretrained(model, adapter))


def distance(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("models") / "llama", llama())


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return save_adapter(tmp_path_factory.mktemp("adapters") / "llama", base, use_rslora=True, **PATTERNS)


def merge(adapter, out, **arguments):
    return merge_adapter(adapter, out, **{"quantization": "none", "progress": False, **arguments})


@pytest.mark.parametrize("config", [llama(), llama(tie_word_embeddings=True), llama(attention_bias=True), gpt2()])
@pytest.mark.parametrize(("name", "quantization"), [("none", None), ("nf4", NF4), ("int8", INT8)])
def test_has_the_logits_of_the_unmerged_adapter_on_the_dequantized_base(config, name, quantization, tmp_path):
    base = save_base(tmp_path / "base", config)
    adapter = save_adapter(tmp_path / "adapter", base, **PATTERNS)
    report = merge(adapter, tmp_path / "merged", quantization=name)
    expected = unmerged(base, adapter, quantization)
    assert distance(logits(loaded(tmp_path / "merged")), expected) < 1e-5
    assert distance(logits(loaded(base)), expected) > 0.05  # the adapter and the rounding are no small thing here
    assert report.difference.relative < 1e-5
    assert report.onto == ("original" if name == "none" else "dequantized")
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())


def test_is_the_model_that_was_trained_in_4_bits(base, adapter, tmp_path):
    merge(adapter, tmp_path / "merged", quantization="nf4")
    quantized = loaded(base, quantization_config=NF4, device_map={"": "cpu"})
    trained = PeftModel.from_pretrained(quantized, adapter, is_trainable=True).train()
    expected = trained(input_ids=TOKENS).logits.detach()  # in evaluation on the CPU, bitsandbytes computes in bfloat16
    assert distance(logits(loaded(tmp_path / "merged")), expected) < 1e-5


def test_onto_the_original_is_what_peft_merges_and_says_how_far_that_is(base, adapter, tmp_path):
    report = merge(adapter, tmp_path / "merged", quantization="nf4", onto="original")
    ours = logits(loaded(tmp_path / "merged"))
    theirs = PeftModel.from_pretrained(loaded(base), adapter).merge_and_unload()
    assert distance(ours, logits(theirs)) < 1e-5
    assert report.difference.relative > 1e-2


@pytest.mark.parametrize("config", [llama(), gpt2()])
@pytest.mark.parametrize(("name", "quantization"), [("nf4", NF4), ("int8", INT8)])
def test_requantized_is_what_bitsandbytes_makes_of_the_merged_model(config, name, quantization, tmp_path):
    base = save_base(tmp_path / "base", config)
    adapter = save_adapter(tmp_path / "adapter", base)
    report = merge(adapter, tmp_path / "packed", quantization=name, onto="requantised")
    merge(adapter, tmp_path / "wide", quantization=name)
    packed, wide = loaded(tmp_path / "packed"), loaded(tmp_path / "wide", quantization_config=quantization)
    assert packed.config.quantization_config.quant_method == "bitsandbytes"
    ours, theirs = packed.dequantize(torch.float32), wide.dequantize(torch.float32)
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    reference = unmerged(base, adapter, quantization)
    assert distance(logits(ours), reference) == pytest.approx(report.difference.relative, rel=0.9)
    assert report.onto == "requantized"


@pytest.mark.parametrize("quantization", [NF4, INT8])
@pytest.mark.parametrize("config", [llama(), gpt2()])
def test_a_base_whose_weights_are_stored_quantized(config, quantization, tmp_path):
    base = save_base(tmp_path / "base", config)
    adapter = save_adapter(tmp_path / "adapter", base)
    loaded(base, quantization_config=quantization).save_pretrained(tmp_path / "packed")
    report = merge(adapter, tmp_path / "merged", base=tmp_path / "packed", quantization=None)
    assert (report.onto, report.quantization_source) == ("dequantized", "the base's own weights")
    assert distance(logits(loaded(tmp_path / "merged")), unmerged(base, adapter, quantization)) < 1e-5
    with pytest.raises(ArgumentError, match="expected a base in full precision for onto='original', got .*packed"):
        merge(adapter, tmp_path / "no", base=tmp_path / "packed", quantization=None, onto="original")
    with pytest.raises(ArgumentError, match="as the weights of .* are stored, got 'none'"):
        merge(adapter, tmp_path / "no", base=tmp_path / "packed")


@pytest.mark.parametrize("config", [llama(), llama(tie_word_embeddings=True), gpt2()])
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": r".*\.(q_proj|c_attn|embed_tokens|wte)"},
        {"target_modules": ["lm_head", "v_proj", "c_proj"]},
        {"target_modules": ["q_proj", "c_attn"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "c_attn"], "modules_to_save": ["embed_tokens", "wte"]},
        {"target_modules": ["q_proj", "c_attn"], "bias": "all"},
    ],
    ids=["embedding", "head", "saved head", "saved embedding", "biases"],
)
def test_embeddings_heads_biases_and_ties(config, settings, tmp_path):
    base = save_base(tmp_path / "base", config)
    adapter = save_adapter(tmp_path / "adapter", base, **settings)
    expected = unmerged(base, adapter)
    report = merge(adapter, tmp_path / "merged")
    assert distance(logits(loaded(tmp_path / "merged")), expected) < 1e-5
    assert report.difference.relative < 1e-5
    assert distance(logits(loaded(base)), expected) > 0.01 or settings.get("bias")
    assert report.untied == (config.tie_word_embeddings and "bias" not in settings)


def test_a_head_without_a_prefix_and_layers_with_it(base, adapter, tmp_path):
    """A checkpoint of the trunk alone: its keys lack the prefix that the model's modules have."""
    model = loaded(base)
    model.config.tie_word_embeddings = True
    model.model.save_pretrained(tmp_path / "trunk")
    settings = json.loads((tmp_path / "trunk" / "config.json").read_text())
    settings |= {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
    (tmp_path / "trunk" / "config.json").write_text(json.dumps(settings))
    adapter = save_adapter(tmp_path / "adapter", tmp_path / "trunk")
    expected = unmerged(tmp_path / "trunk", adapter)
    merge(adapter, tmp_path / "merged")
    assert distance(logits(loaded(tmp_path / "merged")), expected) < 1e-5


def test_shards_tokenizer_and_generation_config(base, adapter, tmp_path):
    sharded = save_base(tmp_path / "sharded", llama(), max_shard_size="100KB")
    report = merge(adapter, tmp_path / "merged", base=sharded, max_shard_size="50KB", quantization="nf4")
    merge(adapter, tmp_path / "whole", base=base, quantization="nf4")
    names = sorted(file.name for file in (tmp_path / "merged").iterdir())
    assert report.n_files == len([name for name in names if name.startswith("model-")]) > 3
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors.index.json"):
        assert name in names
    assert torch.equal(logits(loaded(tmp_path / "merged")), logits(loaded(tmp_path / "whole")))
    assert not [name for name in names if name.startswith(("part-", "adapter", "README"))]


def test_16_bits_are_rounded_once(tmp_path):
    base = save_base(tmp_path / "base", llama(), torch.bfloat16)
    adapter = save_adapter(tmp_path / "adapter", base)
    kept = merge(adapter, tmp_path / "kept", quantization="nf4")
    wide = merge(adapter, tmp_path / "wide", quantization="nf4", dtype="float32")
    assert loaded(tmp_path / "kept", dtype="auto").dtype == torch.bfloat16
    assert loaded(tmp_path / "wide", dtype="auto").dtype == torch.float32
    assert wide.difference.relative < 1e-5 < kept.difference.relative
    quantized = loaded(base, dtype=torch.bfloat16, quantization_config=NF4).dequantize(torch.float32).float()
    expected = logits(PeftModel.from_pretrained(quantized, adapter))
    assert distance(logits(loaded(tmp_path / "wide")), expected) < 1e-5


def test_the_training_record_says_what_it_was_trained_on(base, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", base)
    with pytest.warns(RankSelectWarning, match="It is not recorded whether .* was trained on a quantized base"):
        report = merge(adapter, tmp_path / "unknown", quantization=None, measure=False)
    assert (report.quantization, report.quantization_source) == ("none", "not recorded, assumed not to be quantized")
    record = {"format": "rankselect.training_record", "version": 1, "quantization": "nf4"}
    (adapter / "rankselect.json").write_text(json.dumps(record))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RankSelectWarning)
        report = merge(adapter, tmp_path / "recorded", quantization=None)
    assert (report.onto, report.quantization_source) == ("dequantized", "the training record")
    assert merge(adapter, tmp_path / "said", quantization="int8", measure=False).quantization == "int8"


def test_the_training_record_says_in_which_dtype_the_base_was_quantized(base, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", base)
    record = {"format": "rankselect.training_record", "version": 1, "quantization": "nf4", "dtype": "bfloat16"}
    (adapter / "rankselect.json").write_text(json.dumps(record))
    merge(adapter, tmp_path / "merged", quantization=None)
    trained = loaded(base, dtype=torch.bfloat16, quantization_config=NF4).dequantize(torch.float32).float()
    theirs = PeftModel.from_pretrained(trained, adapter).merge_and_unload().state_dict()
    ours = loaded(tmp_path / "merged").state_dict()
    for name in (name for name in theirs if "_proj" in name):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)


@pytest.mark.assets
@pytest.mark.parametrize("name", ["nf4", "int8"])
def test_a_real_model_and_the_three_ways(name, assets, tmp_path):
    base = assets / "models" / "stories260k"
    adapter = save_adapter(tmp_path / "adapter", base)
    reports = {way: merge(adapter, tmp_path / way, quantization=name, onto=way) for way in WAYS}
    assert reports["dequantized"].difference.relative < 1e-5
    assert min(reports[way].difference.relative for way in WAYS[1:]) > 1e-3
    expected = unmerged(base, adapter, NF4 if name == "nf4" else INT8)
    assert distance(logits(loaded(tmp_path / "dequantized")), expected) < 1e-3


def test_texts_to_compare_on(base, adapter, tmp_path):
    texts = tiny_texts(3)
    report = merge(adapter, tmp_path / "merged", check_texts=texts, onto="original", quantization="int8")
    tokenizer = tiny_tokenizer()
    assert report.difference.n_tokens == sum(len(tokenizer(text)["input_ids"]) for text in texts)
    for none in ([], [""]):
        with pytest.raises(ArgumentError, match="expected texts that are not empty, got an empty one"):
            merge(adapter, tmp_path / "no", check_texts=none)


def test_a_report_for_people_and_programs(base, adapter, tmp_path):
    report = merge(adapter, tmp_path / "merged", quantization="nf4")
    document = json.loads(json.dumps(report.to_dict()))
    assert (document["format"], document["onto"], document["n_modules"]) == (
        "rankselect.merge_report",
        "dequantized",
        14,
    )
    assert document["difference"]["relative"] == report.difference.relative
    assert "merged 14 modules" in str(report)
    assert "trained on: nf4 (as you said)" in str(report)
    assert "not measured" in str(merge(adapter, tmp_path / "unmeasured", measure=False))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"onto": "dequantised"}, ArgumentError, "expected a quantization for onto='dequantized', got none"),
        ({"onto": "requantized"}, ArgumentError, "expected a quantization for onto='requantized', got none"),
        ({"onto": "base"}, UnknownNameError, "the name of a way to merge, got 'base'"),
        ({"quantization": "nf5"}, UnknownNameError, "got 'nf5'. Did you mean nf4?"),
        ({"dtype": "int8"}, ArgumentError, "expected a dtype: auto, float32, bfloat16, float16, got 'int8'"),
        ({"max_shard_size": "5 apples"}, ArgumentError, "expected a max_shard_size in bytes, got '5 apples'"),
    ],
)
def test_arguments_that_cannot_be(arguments, error, message, adapter, tmp_path):
    with pytest.raises(error, match=message):
        merge(adapter, tmp_path / "out", **arguments)
    assert not list(tmp_path.iterdir())
