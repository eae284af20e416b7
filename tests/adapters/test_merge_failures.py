"""Merges that cannot be: bases that are missing or of another shape, disks that are full, processes that are killed."""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from rankselect.adapters.merge import merge_adapter, output
from rankselect.errors import AdapterError, ModelError, RankSelectWarning, SaveError
from rankselect.testing import tiny_model
from training.test_trainer import make_trainer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
MERGE = """
import sys
from rankselect.adapters.merge import merge_adapter
{before}
merge_adapter(sys.argv[1], sys.argv[2], base=sys.argv[3], quantization="none", measure=False, progress=False)
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A base and an adapter of it."""
    folder = tmp_path_factory.mktemp("good")
    tiny_model().save_pretrained(folder / "base", max_shard_size="20KB")
    get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"])).save_pretrained(
        folder / "adapter"
    )
    return folder


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "work")


def merge(folder, **arguments):
    defaults = {"base": folder / "base", "quantization": "none", "progress": False}
    return merge_adapter(folder / "adapter", folder / "out", **{**defaults, **arguments})


def in_a_process(folder, before=""):
    command = [sys.executable, "-c", MERGE.format(before=before)]
    arguments = [str(folder / name) for name in ("adapter", "out", "base")]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in {"base", "adapter"})


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("/no/such/model", "got /no/such/model, which does not exist. Check the path. To use another base .*--base"),
        ("nobody/no-such", "got nobody/no-such: .* HF_HUB_OFFLINE is set and the model is not in the cache"),
        (None, "got none, as .*adapter was trained on a model that was built in memory. Save that model .*--base"),
        (__file__, "got .*test_merge_failures.py, which is a file"),
    ],
)
def test_a_base_that_is_not_there(folder, base, message):
    with pytest.raises(ModelError, match=message):
        merge(folder, base=base)
    assert left(folder) == []


@pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")
def test_an_adapter_of_a_model_that_was_built_in_memory(tmp_path):
    """Its record names no base, so nobody asks the hub for a repository with the name of a class."""
    trainer = make_trainer(tmp_path / "training", changes={"max_steps": 1})
    base = copy.deepcopy(trainer.model).unload()
    base.save_pretrained(tmp_path / "base")
    trainer.train()
    trainer.save_adapter(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "rankselect.json").read_text())["base_model"] is None
    with pytest.raises(ModelError, match=r"a model that was built in memory\. Save that model without the adapter"):
        merge_adapter(tmp_path / "adapter", tmp_path / "out", progress=False)
    report = merge_adapter(tmp_path / "adapter", tmp_path / "out", base=tmp_path / "base", progress=False)
    assert report.difference.relative < 1e-5


def test_a_base_without_config_or_of_no_known_kind(folder):
    with pytest.raises(ModelError, match="got .*adapter, which holds an adapter. Give the folder or name"):
        merge(folder, base=folder / "adapter")
    (folder / "base" / "config.json").write_text('{"model_type": "telepathy"}')
    with pytest.raises(ModelError, match="expected a model that transformers can load, got .*telepathy"):
        merge(folder)


def test_a_base_in_shards_of_which_one_is_missing_or_truncated(folder):
    shard = next((folder / "base").glob("model-00002-of-*"))
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(ModelError, match="a base model whose weights are complete, got .*00002.*cannot be read"):
        merge(folder)
    shard.unlink()
    with pytest.raises(ModelError, match="a base model whose weights are complete, got .*00002.*cannot be read"):
        merge(folder)
    (folder / "base" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="expected an index of shards, got .*which is damaged"):
        merge(folder)


def test_a_base_without_safetensors(folder):
    for file in (folder / "base").glob("model*"):
        file.unlink()
    with pytest.raises(ModelError, match="expected weights in safetensors .*, got none in .*base"):
        merge(folder)
    torch.save({}, folder / "base" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="got .*base, which has pickles only. Load the model with transformers"):
        merge(folder)


def test_a_base_quantized_by_something_else(folder):
    path = folder / "base" / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with pytest.raises(ModelError, match="a base model in full precision, or quantized by bitsandbytes, got .*by gptq"):
        merge(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64}, r"where model.layers.0.*weight is \(64, 64\), got A and B for \(32, 32\)"),
        (
            {"num_hidden_layers": 1},
            r"got weights for model.layers.1.self_attn.q_proj \(2 such\), which the base does not ha",
        ),
        (
            {"num_hidden_layers": 3},
            r"weights for all 6 modules .*, got none for model.layers.2.self_attn.q_proj \(2 such\)",
        ),
    ],
)
def test_another_base(folder, changes, message):
    sizes = {"vocab_size": 25, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(**{**sizes, **heads, **changes})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "other")
    with pytest.raises(AdapterError, match=message):
        merge(folder, base=folder / "other")


def test_a_base_of_another_family(folder):
    tiny_model("gpt2").save_pretrained(folder / "other")
    with pytest.raises(AdapterError, match="which PEFT cannot put on it .Target modules"):
        merge(folder, base=folder / "other")


def test_a_whole_module_that_is_missing_or_of_another_shape(folder):
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    get_peft_model(tiny_model(), config).save_pretrained(folder / "adapter")
    path = folder / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    head = tensors.pop("base_model.model.lm_head.weight")
    save_file(tensors, path)
    with pytest.raises(
        AdapterError, match=r"the modules that modules_to_save names \(lm_head\), got none for lm_head.wei"
    ):
        merge(folder)
    save_file({**tensors, "base_model.model.lm_head.weight": torch.cat([head, head])}, path)
    with pytest.raises(AdapterError, match=r"where lm_head.weight is \(25, 32\), got one of shape \(50, 32\)"):
        merge(folder)


def test_a_weight_that_the_base_lacks(folder):
    shutil.rmtree(folder / "base")
    tiny_model().save_pretrained(folder / "base")
    path = folder / "base" / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.self_attn.v_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(AdapterError, match=r"got model.layers.1.self_attn.v_proj.weight, which they do not have"):
        merge(folder)


def test_a_sum_that_overflows(folder):
    path = folder / "adapter" / "adapter_model.safetensors"
    tensors = {key: torch.full_like(tensor, 300.0) for key, tensor in load_file(path).items()}
    save_file(tensors, path)
    with pytest.raises(
        AdapterError, match="expected merged weights that fit into torch.float16, got one that overflows"
    ):
        merge(folder, dtype="float16", measure=False)
    assert left(folder) == []


def test_logits_that_cannot_be_compared_do_not_cost_the_merge(folder, monkeypatch):
    def fail(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("rankselect.adapters.merge.merge.logits", fail)
    with pytest.warns(RankSelectWarning, match="could not be compared .RuntimeError: no such kernel"):
        report = merge(folder)
    assert (report.difference, report.not_measured) == (None, "RuntimeError: no such kernel")
    assert (folder / "out" / "model.safetensors").is_file()


def test_an_existing_folder(folder):
    (folder / "out").mkdir()
    (folder / "out" / "precious").write_text("")
    with pytest.raises(SaveError, match="expected a new or empty folder, got .*out, which exists"):
        merge(folder)
    assert left(folder) == ["out"]
    (folder / "out" / "precious").unlink()
    merge(folder)  # an empty one will do
    assert (folder / "out" / "config.json").is_file()


@contextmanager
def full_disk(at):
    """The kernel refuses to write files beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("at", [100, 30_000])
def test_a_full_disk_leaves_nothing(folder, at):
    with (
        full_disk(at),
        pytest.raises(SaveError, match="a folder that can be written, got .*out .*File too large.*nothing"),
    ):
        merge(folder)
    assert left(folder) == []


def test_a_folder_that_cannot_be_written(folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(output.shutil, "copyfile", refuse)  # the tests may run as root, whom no mode stops
    with pytest.raises(SaveError, match="expected a folder that can be written, got .*out .*Permission denied"):
        merge(folder)
    assert left(folder) == []


def test_a_killed_merge_leaves_no_folder_of_the_name(folder):
    slow = (
        "import time\nfrom rankselect.adapters.merge import shards\nflush = shards.ShardWriter._flush\n"
        "def wait(self):\n    flush(self); print('written', flush=True); time.sleep(600)\n"
        "shards.ShardWriter._flush = wait"
    )
    process = in_a_process(folder, slow)
    assert process.stdout.readline() == "written\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=300)
    names = left(folder)
    assert "out" not in names
    assert all(name.startswith(".out.") for name in names)  # what a killed process could not remove
    merge(folder)
    assert (folder / "out" / "model.safetensors").is_file()
