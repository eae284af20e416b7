"""`export_adapter`: one rank for all modules, and not a bit of difference to PEFT."""

from __future__ import annotations

import json
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from rankselect.adapters import export as module
from rankselect.adapters.adapter_folder import AdapterFolder, read_adapter
from rankselect.adapters.export import TARGETS, VLLM_RANKS, export_adapter
from rankselect.adapters.lora_delta import LoraModule
from rankselect.errors import AdapterError, ArgumentError, SaveError, UnknownNameError
from rankselect.testing import tiny_model

TOKENS = torch.tensor([[3, 7, 1, 12, 5, 9, 20, 2]])
MANY = {
    "r": 4,
    "lora_alpha": 7,
    "rank_pattern": {"q_proj": 9, "up_proj": 2},
    "alpha_pattern": {"v_proj": 5, "up_proj": 1, "c_fc": 3},
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::RuntimeWarning")


def save(folder, architecture="llama", dtype=torch.float32, **changes):
    torch.manual_seed(2)
    config = LoraConfig(**{"target_modules": "all-linear", "init_lora_weights": False, **MANY, **changes})
    model = get_peft_model(tiny_model(architecture), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return save(tmp_path_factory.mktemp("adapters") / "many")


def logits(folder, architecture="llama"):
    model = PeftModel.from_pretrained(tiny_model(architecture), folder)
    with torch.inference_mode():
        return model(input_ids=TOKENS).logits


def deltas(folder):
    adapter = read_adapter(folder)
    return {module.name: adapter.delta(module) for module in adapter.modules}


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_the_same_change_and_the_same_logits_in_peft(architecture, target, rank_stabilised, tmp_path):
    source = save(tmp_path / "adapter", architecture, use_rslora=rank_stabilised)
    report = export_adapter(source, tmp_path / "out", target=target)
    before, after = deltas(source), deltas(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, delta in before.items():
        torch.testing.assert_close(after[name], delta, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        logits(tmp_path / "out", architecture), logits(source, architecture), rtol=1e-5, atol=1e-5
    )
    config = LoraConfig.from_pretrained(tmp_path / "out")
    exact, of_vllm = (9, 16) if architecture == "llama" else (4, 8)
    assert report.rank == config.r == config.lora_alpha == (of_vllm if target in {"vllm", "any"} else exact)
    assert not config.use_rslora and config.rank_pattern == config.alpha_pattern == {}  # noqa: PT018
    assert all(module.rank == report.rank and module.scale == 1 for module in read_adapter(tmp_path / "out").modules)


@settings(max_examples=15)
@given(rank=st.integers(1, 512))
def test_vllm_gets_the_smallest_rank_that_it_takes(rank):
    made = module._one_rank(stub(rank), "vllm")
    assert made in VLLM_RANKS
    assert made >= rank
    assert not [other for other in VLLM_RANKS if rank <= other < made]
    assert module._one_rank(stub(rank), "sglang") == rank


def stub(rank):
    """An adapter of one module, without files."""
    modules = (LoraModule("fc", "linear", rank, 1.0, 1.0, 4, 4),)
    return AdapterFolder(Path(), LoraConfig(), modules, {}, {})


def test_ranks_above_what_vllm_takes(tmp_path):
    source = save(tmp_path / "adapter", r=513, target_modules=["o_proj"], rank_pattern={})
    with pytest.raises(
        AdapterError, match="ranks of at most 512, the greatest that vLLM takes, got rank 513 .model.layers"
    ):
        export_adapter(source, tmp_path / "out", target="vllm")
    assert export_adapter(source, tmp_path / "out", target="sglang").rank == 513


def test_the_cost_of_padding(adapter, tmp_path):
    report = export_adapter(adapter, tmp_path / "out", target="vllm")
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (adapter, tmp_path / "out"))
    assert report.parameters_before == sum(tensor.numel() for tensor in before.values())
    assert report.parameters_after == sum(tensor.numel() for tensor in after.values())
    assert report.bytes_after == sum(tensor.nbytes for tensor in after.values()) == 4 * report.parameters_after
    assert report.ranks == (2, 4, 9)
    assert f"padding: {report.parameters_before:,} -> {report.parameters_after:,} parameters" in str(report)
    assert "ranks 2 to 9, as rank 16 for vllm" in str(report)
    assert "next: serve with --enable-lora --max-lora-rank 16" in str(report)
    document = json.loads(json.dumps(report.to_dict()))
    assert (document["format"], document["rank"], document["ranks"]) == ("rankselect.export_report", 16, [2, 4, 9])


def test_what_to_do_next(adapter, tmp_path):
    assert "convert_lora_to_gguf.py" in export_adapter(adapter, tmp_path / "gguf", target="llama.cpp").next_step
    assert "--max-lora-rank 16" in export_adapter(adapter, tmp_path / "any").next_step


def test_16_bits_are_rounded_after_folding(tmp_path):
    source = save(tmp_path / "adapter", dtype=torch.bfloat16)
    kept = export_adapter(source, tmp_path / "kept")
    wide = export_adapter(source, tmp_path / "wide", dtype="float32")
    for folder, dtype in (("kept", torch.bfloat16), ("wide", torch.float32)):
        tensors = load_file(tmp_path / folder / "adapter_model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    assert 0 < kept.rounding < 2**-8
    assert wide.rounding == 0
    assert "rounding of the scaled B" in str(kept)
    exact, rounded = deltas(tmp_path / "wide"), deltas(tmp_path / "kept")
    for name, delta in deltas(source).items():
        torch.testing.assert_close(exact[name], delta, rtol=1e-6, atol=1e-6)
        assert float((rounded[name] - delta).norm() / delta.norm()) <= 2**-8


def test_weights_that_overflow(tmp_path):
    source = save(tmp_path / "adapter", lora_alpha=10**7)
    with pytest.raises(
        AdapterError, match="scaled weights that fit into torch.float16, got model.*overflows. Export with"
    ):
        export_adapter(source, tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("targets", [r".*layers\.1.*\.(q|k)_proj", ["q_proj", "k_proj"]])
def test_target_modules_that_engines_can_read(targets, tmp_path):
    changes = {"layers_to_transform": [1]} if isinstance(targets, list) else {}
    source = save(tmp_path / "adapter", target_modules=targets, **changes)
    export_adapter(source, tmp_path / "out")
    config = LoraConfig.from_pretrained(tmp_path / "out")
    assert config.target_modules == {"model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj"}
    assert config.layers_to_transform is None
    torch.testing.assert_close(logits(tmp_path / "out"), logits(source), rtol=1e-5, atol=1e-5)


def test_names_that_engines_can_read_are_kept(tmp_path):
    source = save(tmp_path / "adapter", target_modules=["q_proj", "v_proj"])
    export_adapter(source, tmp_path / "out")
    assert LoraConfig.from_pretrained(tmp_path / "out").target_modules == {"q_proj", "v_proj"}


def test_an_adapter_of_an_embedding(tmp_path):
    source = save(tmp_path / "adapter", target_modules=["embed_tokens", "q_proj"])
    report = export_adapter(source, tmp_path / "out")
    torch.testing.assert_close(logits(tmp_path / "out"), logits(source), rtol=1e-5, atol=1e-5)
    assert "model.embed_tokens: not every engine serves adapters of embeddings" in str(report)
    assert "model.embed_tokens.weight, a weight of the base that PEFT had saved along, was left out" in str(report)


def test_other_files_come_along(adapter, tmp_path):
    source = shutil.copytree(adapter, tmp_path / "adapter")
    (source / "tokenizer.json").write_text("{}")
    record = {"format": "rankselect.training_record", "version": 1, "quantization": "nf4"}
    (source / "rankselect.json").write_text(json.dumps(record))
    (source / "optimizer.pt").write_text("")
    export_adapter(source, tmp_path / "out")
    assert read_adapter(tmp_path / "out").record["quantization"] == "nf4"
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert not (tmp_path / "out" / "optimizer.pt").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "one with use_dora=True. DoRA also rescales"),
        ({"bias": "all"}, "one with bias='all'. Trained biases are not a low-rank update. Merge the adapter"),
        ({"bias": "lora_only"}, "one with bias='lora_only'"),
        (
            {"modules_to_save": ["lm_head"]},
            "one with modules_to_save=.*Completely trained modules are not a low-rank update",
        ),
    ],
)
def test_what_no_single_rank_can_hold(changes, message, tmp_path):
    source = save(tmp_path / "adapter", target_modules=["q_proj"], **changes)
    with pytest.raises(AdapterError, match=f"expected a plain LoRA adapter, got {message}"):
        export_adapter(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_engines_and_dtypes(adapter, tmp_path):
    with pytest.raises(UnknownNameError, match="name of a serving engine, got 'llama-cpp'. Did you mean llama.cpp?"):
        export_adapter(adapter, tmp_path / "out", target="llama-cpp")
    with pytest.raises(ArgumentError, match="expected a dtype: auto, float32, bfloat16, float16, got 'int4'"):
        export_adapter(adapter, tmp_path / "out", dtype="int4")


def test_an_existing_folder(adapter, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="expected a new or empty folder"):
        export_adapter(adapter, tmp_path)


@contextmanager
def full_disk(at):
    """The kernel refuses to write files beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing(adapter, tmp_path):
    with full_disk(20_000), pytest.raises(SaveError, match="a folder that can be written, got .*out .*File too large"):
        export_adapter(adapter, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
