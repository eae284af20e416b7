"""Faults during training: out of memory, non-finite numbers, full disks."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import rankselect as rs
from training.test_trainer import logits_of, make_trainer

pytestmark = pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")


def limit_memory(trainer, rows, *, in_backward=False):
    """Make every pass over more rows than the limit run out of memory, as on a GPU."""
    seen = []
    forward = trainer.model.forward

    def limited(*args, **kwargs):
        seen.append(len(kwargs["input_ids"]))
        too_many = len(kwargs["input_ids"]) > rows
        if too_many and not in_backward:
            raise torch.OutOfMemoryError("out of memory")
        outputs = forward(*args, **kwargs)
        if too_many:
            outputs["loss"] = RunOut.apply(outputs["loss"])
            first = next(p for p in trainer.model.parameters() if p.requires_grad)
            first.grad = torch.full_like(first, 7.0) if first.grad is None else first.grad + 7.0
        return outputs

    trainer.model.forward = limited
    return seen


class RunOut(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_running_out_of_memory_changes_the_batches_but_not_the_weights(tmp_path, accumulation, in_backward):
    changes = {"gradient_accumulation_steps": accumulation, "max_steps": 3}
    whole = make_trainer(tmp_path, changes=changes)
    whole.train()
    cut = make_trainer(tmp_path, changes=changes)
    seen = limit_memory(cut, 1, in_backward=in_backward)
    cut.train()
    assert cut.record.micro_batch_size == 1
    assert seen[:2] == [4, 2]
    assert set(seen[seen.index(1) :]) == {1}
    torch.testing.assert_close(logits_of(cut.model), logits_of(whole.model), rtol=1e-4, atol=1e-4)
    assert [step for step, _ in cut.record.losses] == [1, 2, 3]
    for (_, ours), (_, theirs) in zip(cut.record.losses, whole.record.losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_running_out_of_memory_in_the_second_micro_batch_restarts_the_step(tmp_path):
    changes = {"gradient_accumulation_steps": 2, "max_steps": 1}
    whole = make_trainer(tmp_path, changes=changes)
    whole.train()
    cut = make_trainer(tmp_path, changes=changes)
    forward, calls = cut.model.forward, []

    def second_fails(*args, **kwargs):
        calls.append(len(kwargs["input_ids"]))
        if len(calls) == 2:
            for parameter in cut.model.parameters():
                if parameter.requires_grad:
                    parameter.grad = parameter.grad + 1.0  # left by a backward pass that failed
            raise torch.OutOfMemoryError("out of memory")
        return forward(*args, **kwargs)

    cut.model.forward = second_fails
    cut.train()
    assert calls == [4, 4, 2, 2, 2, 2]
    torch.testing.assert_close(logits_of(cut.model), logits_of(whole.model), rtol=1e-4, atol=1e-4)


def test_a_mean_loss_that_is_not_counted_by_items_is_weighted_by_labels(tmp_path):
    changes = {"gradient_accumulation_steps": 2, "max_steps": 2}
    whole = make_trainer(tmp_path, changes=changes)
    cut = make_trainer(tmp_path, changes=changes)
    for trainer in (whole, cut):
        trainer.model_accepts_loss_kwargs = False
    limit_memory(cut, 3)
    whole.train()
    cut.train()
    assert cut.record.micro_batch_size == 2
    torch.testing.assert_close(logits_of(cut.model), logits_of(whole.model), rtol=1e-4, atol=1e-4)


def test_a_custom_loss_that_counts_items_is_not_weighted(tmp_path):
    def summed(outputs, labels, num_items_in_batch=None):
        logits, labels = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        return torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / num_items_in_batch

    changes = {"gradient_accumulation_steps": 2, "max_steps": 2}
    whole = make_trainer(tmp_path, changes=changes, compute_loss_func=summed)
    cut = make_trainer(tmp_path, changes=changes, compute_loss_func=summed)
    limit_memory(cut, 3)
    whole.train()
    cut.train()
    assert cut.record.micro_batch_size == 2
    torch.testing.assert_close(logits_of(cut.model), logits_of(whole.model), rtol=1e-4, atol=1e-4)


def test_training_again_after_an_error_starts_from_scratch(tmp_path):
    """The batches of a step that failed are not run again in the first step of another training."""
    trainer = make_trainer(tmp_path, changes={"gradient_accumulation_steps": 2, "max_steps": 1})
    step, calls = trainer.compute_loss, []

    def second_fails(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    trainer.compute_loss = second_fails
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    seen = limit_memory(trainer, 2)
    trainer.train()
    assert seen == [4, 2, 2, 2, 2]


def test_an_error_unrelated_to_the_disk_is_not_changed(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, changes={"save_strategy": "steps", "save_steps": 2})

    def broken(*args, **kwargs):
        raise RuntimeError("something else")

    monkeypatch.setattr(trainer, "save_model", broken)
    with pytest.raises(RuntimeError, match="something else") as caught:
        trainer.train()
    assert not isinstance(caught.value, rs.errors.SaveError)


def test_the_error_for_a_row_that_does_not_fit_lists_what_each_change_would_save(tmp_path):
    trainer = make_trainer(tmp_path)
    limit_memory(trainer, 0)
    with pytest.raises(
        rs.errors.OutOfMemoryError, match=r"got too little for 1 row of \d+ tokens.*saves about"
    ) as caught:
        trainer.train()
    assert "checkpointing" in str(caught.value)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    trainer = make_trainer(tmp_path, changes={"save_strategy": "steps", "save_steps": 1, "max_steps": 9})
    step = trainer.training_step

    def poisoned(model, inputs, n_items=None):
        if trainer.state.global_step == 4:
            with torch.no_grad():
                next(p for p in model.parameters() if p.requires_grad).fill_(torch.inf)
        return step(model, inputs, n_items)

    trainer.training_step = poisoned
    with pytest.raises(
        rs.errors.NonFiniteLossError, match=r"finite training loss, got nan at step 5\..*checkpoint-4\."
    ):
        trainer.train()
    kept = load_file(tmp_path / "checkpoint-4" / "adapter_model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    trainer = make_trainer(tmp_path, changes={"save_strategy": "steps", "save_steps": 1, "learning_rate": 1e38})
    with pytest.raises(rs.errors.NonFiniteLossError, match=r"at step \d"):
        trainer.train()
    for weights in tmp_path.glob("checkpoint-*/adapter_model.safetensors"):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(weights).values())


@pytest.mark.parametrize("limit", [2_000, 9_000], ids=["the adapter", "the optimizer's states"])
def test_a_full_disk_leaves_no_half_checkpoint(tmp_path, limit):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import resource, signal, sys
            sys.path.insert(0, sys.argv[2])
            import rankselect as rs
            from training import test_trainer as here

            changes = {"save_strategy": "steps", "save_steps": 2}
            trainer = here.make_trainer(sys.argv[1], changes=changes)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            limit = int(sys.argv[3])
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # every longer file fails, as on a full disk
            try:
                trainer.train()
            except rs.errors.SaveError as error:
                sys.stdout.write(str(error))
            """
        ),
        encoding="utf-8",
    )
    folder = tmp_path / "out"
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, script, folder, tests, str(limit)], capture_output=True, text=True, check=False
    )
    assert "expected a checkpoint that can be written" in done.stdout, done.stderr[-2000:]
    assert "There is no checkpoint yet." in done.stdout
    assert not list(folder.glob("checkpoint-*"))


def test_batches_of_any_kind_are_split_by_rows():
    from rankselect.training.out_of_memory import loss_share, micro_batches

    labels = torch.tensor([[-100, 1], [-100, -100], [-100, 2]])
    batch = {"labels": labels, "input_ids": torch.arange(6).view(3, 2), "scale": torch.tensor(2.0), "name": "x"}
    parts = list(micro_batches(batch, 2))
    assert [len(part["labels"]) for part in parts] == [2, 1]
    assert torch.equal(torch.cat([part["input_ids"] for part in parts]), batch["input_ids"])
    assert all(part["scale"] == 2 and part["name"] == "x" for part in parts)
    assert [loss_share(part, batch) for part in parts] == [0.5, 0.5]
