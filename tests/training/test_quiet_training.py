"""Our own calls cause no warnings of transformers, torch or PEFT."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager

import pytest
import torch
from transformers import TrainingArguments

import rankselect as rs
from rankselect.adapters.attach import attach_adapter
from rankselect.models._transformers import checkpointing
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

ROWS = [rs.QuestionAnswer(f"why {i}", text) for i, text in enumerate(tiny_texts(12))]
LIBRARIES = ("transformers", "peft", "accelerate", "torch", "py.warnings")


@contextmanager
def captured_warnings():
    """Collect all warnings, and all log records of that level, during the block."""
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(f"{record.name}: {record.getMessage()}")
    for name in LIBRARIES:
        logging.getLogger(name).addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield said
    finally:
        for name in LIBRARIES:
            logging.getLogger(name).removeHandler(handler)
    said += [f"{each.filename}: {each.category.__name__}: {each.message}" for each in warned]


@pytest.mark.parametrize("recomputing", [False, True])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_loading_training_and_answering_raise_no_warnings(tmp_path, recomputing, quantization):
    if quantization == "nf4":
        pytest.importorskip("bitsandbytes")
    tiny_model().save_pretrained(tmp_path / "model")
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = "fever"
    with captured_warnings() as said:
        model = rs.load_model(tmp_path / "model", quantization=quantization, device_map="cpu")
        arguments = TrainingArguments(
            str(tmp_path / "run"), max_steps=2, save_steps=1, eval_strategy="steps", eval_steps=1,
            use_cpu=torch.cuda.is_available(), report_to="none", disable_tqdm=True, **checkpointing(on=recomputing),
        )  # fmt: skip
        trainer = rs.RankSelectTrainer(
            model, arguments, strategy=rs.Fixed(2), train_dataset=ROWS[:8], eval_dataset=ROWS[8:],
            processing_class=tokenizer, max_length=64,
        )  # fmt: skip
        trainer.train()
        trainer.save_adapter(tmp_path / "adapter")
        fresh = rs.load_model(tmp_path / "model", quantization=quantization, device_map="cpu")
        adapted = attach_adapter(fresh, tmp_path / "adapter")
        rs.generate_answers(adapted, tokenizer, ["why"], max_new_tokens=2, progress=False)
        rs.answer_losses(adapted, tokenizer, ROWS, max_length=64)
    assert trainer.record.steps == 2
    assert said == []
    if not torch.cuda.is_available():
        assert arguments.dataloader_pin_memory  # the user's object is unchanged
        assert not trainer.args.dataloader_pin_memory


def test_warnings_are_captured(tmp_path):
    """Otherwise the test above would always pass."""
    with captured_warnings() as said:
        logging.getLogger("transformers.trainer_utils").warning("tokens were aligned")
        warnings.warn("pinned memory", UserWarning, stacklevel=1)
    assert [line.rpartition(": ")[2] for line in said] == ["tokens were aligned", "pinned memory"]
