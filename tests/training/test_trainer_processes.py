"""Training on two processes equals training on one; an error on one process does not leave the other waiting."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from peft import PeftModel
from transformers import TrainerCallback

import rankselect as rs
from launcher import launch, run_all
from rankselect.testing import tiny_model
from training.test_trainer import ROWS, logits_of, make_trainer

pytestmark = pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")

# The rows of a step are the same, but their losses and gradients are added up in another order. For a loss of 3 the
# resolution of float32 is 4e-7, and six steps moved it by 3e-7. Weighting by processes instead of tokens moves the last
# loss by 3e-3.
TOLERANCE = 1e-5


def per_device(n_processes):
    """Settings with the same effective batch for any number of processes."""
    return {"per_device_train_batch_size": 4 // n_processes}


class NotANumber(TrainerCallback):
    """Corrupts the adapter of one process before the third step."""

    def __init__(self, rank):
        self.rank = rank

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2 and args.process_index == self.rank:
            with torch.no_grad():
                next(weight for name, weight in model.named_parameters() if "lora_B" in name).fill_(float("nan"))


SCRIPT = """
import contextlib, io, warnings
import torch
import rankselect as rs
from training import test_trainer_processes as here
from training.test_trainer import ROWS, logits_of, make_trainer

def numbers(trainer):
    record = trainer.record
    return {
        "losses": [loss for _, loss in record.losses],
        "logits": logits_of(trainer.model).flatten()[:50].tolist(),
        "plan": trainer.plan.ranks,
        "tokens": record.tokens,
        "peak": record.peak_memory_bytes,
    }

def failing(work):
    try:
        work()
    except rs.RankSelectError as error:
        return f"{type(error).__name__}: {error}"

err = io.StringIO()
with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(err):
    warnings.simplefilter("always")
    changes = {**here.per_device(2), "disable_tqdm": False}
    trainer = make_trainer(folder / "plain", strategy=rs.PerLayerID(), eval_dataset=ROWS[:3], changes=changes)
    trainer.train()
told["shown"] = err.getvalue()
told["warnings"] = sorted(str(each.message)[:20] for each in caught if issubclass(each.category, rs.RankSelectWarning))
told["plain"] = numbers(trainer)
trainer.save_adapter(folder / f"adapter-{rank}")
told["saved twice"] = failing(lambda: trainer.save_adapter(folder / "adapter-0"))

changes = {**here.per_device(2), "gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 3}
trainer = make_trainer(folder / "whole", changes=changes, profile_after=True)
trainer.train()
told["accumulated"] = {**numbers(trainer), "after": trainer.profile_after.values.tolist()}
if rank == 0:
    (folder / "whole" / "checkpoint-6" / "trainer_state.json").write_text("{")
torch.distributed.barrier()
trainer = make_trainer(folder / "whole", changes=changes)
trainer.train(resume_from_checkpoint=True)
told["resumed"] = {**numbers(trainer), "from": trainer.record.first_step}

for spoiled in (0, 1):
    trainer = make_trainer(folder / "nan", changes=here.per_device(2), callbacks=[here.NotANumber(spoiled)])
    told[f"nan on {spoiled}"] = failing(trainer.train)

class OfMyOwn(rs.RankStrategy):
    evidence = None
    def ranks(self, targets, evidence):
        return {target.name: rank + 2 for target in targets}

told["own ranks"] = make_trainer(folder / "own", strategy=OfMyOwn(), changes=here.per_device(2)).plan.ranks
told["alone"] = failing(lambda: make_trainer(folder / "alone", changes={"use_cpu": False}))
tell()

trainer = make_trainer(folder / "memory", changes=here.per_device(2))
if rank == 1:
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate much.")
    trainer.model.register_forward_pre_hook(fail)
trainer.train()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which two processes train."""
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def launched(folder):
    """The results of two processes, and how the processes ended: out of memory, in the last part of the script."""
    return launch(folder, SCRIPT)


@pytest.fixture(scope="module")
def told(launched):
    """The results of two processes."""
    told, done = launched
    assert all(told), done.stderr[-4000:]
    return told


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with the same effective batch."""
    folder = tmp_path_factory.mktemp("alone")
    trainer = make_trainer(folder, strategy=rs.PerLayerID(), eval_dataset=ROWS[:3], changes=per_device(1))
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def alone_accumulated(tmp_path_factory):
    """One process with two forward passes per step and a profile at the end."""
    changes = {**per_device(1), "gradient_accumulation_steps": 2}
    trainer = make_trainer(tmp_path_factory.mktemp("alone"), changes=changes, profile_after=True)
    trainer.train()
    return trainer


def losses(trainer):
    return [loss for _, loss in trainer.record.losses]


def test_two_processes_train_like_one(told, alone):
    for each in told:
        assert each["plain"]["losses"] == pytest.approx(losses(alone), abs=TOLERANCE)
        assert each["plain"]["logits"] == pytest.approx(logits_of(alone.model).flatten()[:50].tolist(), abs=1e-4)
        assert each["plain"]["tokens"] == alone.record.tokens
        assert each["plain"]["peak"] == told[0]["plain"]["peak"] > 10 * 2**20


def test_the_plan_is_the_same_on_both(told, alone):
    assert told[0]["plain"]["plan"] == told[1]["plain"]["plan"] == alone.plan.ranks
    assert told[0]["own ranks"] == told[1]["own ranks"]
    assert set(told[1]["own ranks"].values()) == {2}  # the strategy chooses 2 on the first process and 3 on the second


def test_accumulation_and_the_profile_after_training(told, alone_accumulated):
    for each in told:
        assert each["accumulated"]["losses"] == pytest.approx(losses(alone_accumulated), abs=TOLERANCE)
        # weights that differ by rounding, hidden states likewise
        assert each["accumulated"]["after"] == pytest.approx(alone_accumulated.profile_after.values.tolist(), rel=1e-4)


def test_two_processes_resume_from_the_newest_complete_checkpoint(told):
    for each in told:
        assert each["resumed"]["from"] == 3
        assert each["resumed"]["losses"] == pytest.approx(each["accumulated"]["losses"], abs=TOLERANCE)


def test_only_the_first_process_writes_and_warns(told, folder, alone):
    assert not (folder / "adapter-1").exists()
    loaded = PeftModel.from_pretrained(tiny_model(), folder / "adapter-0")
    torch.testing.assert_close(logits_of(loaded), logits_of(alone.model), atol=1e-4, rtol=0)
    assert "6/6" in told[0]["shown"]
    assert told[1]["shown"].count("step") == 0
    assert told[0]["warnings"] == [
        "3 of 3 evaluation qu",
        "The order of the lay",
    ]
    assert told[1]["warnings"] == []


def test_an_adapter_that_cannot_be_saved_is_an_error_on_both(told):
    for each in told:
        assert each["saved twice"].startswith("SaveError: expected a new or empty folder, got ")


def test_a_loss_of_nan_on_one_process_stops_both(told):
    for spoiled in (0, 1):
        for each in told:
            assert each[f"nan on {spoiled}"].startswith(
                "NonFiniteLossError: expected a finite training loss, got nan at step 3."
            )


def test_processes_that_would_train_separately_are_an_error(told):
    for each in told:
        assert each["alone"].startswith(
            "ArgumentError: expected training arguments for 2 processes, got arguments for 1. On CPUs, add use_cpu=True"
        )


def test_out_of_memory_on_one_process_ends_both(launched):
    _, done = launched
    assert done.returncode != 0
    assert "expected enough memory for a training step, got too little for 2 rows of" in done.stderr


def test_the_command_line_under_the_launcher(tmp_path):
    from rankselect.testing import tiny_tokenizer

    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    rows = [{"question": row.question, "answer": row.answer} for row in ROWS]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    code = "from rankselect.cli import main; main()"
    (tmp_path / "cli.py").write_text(code, encoding="utf-8")
    run = tmp_path / "run"
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", tmp_path / "cli.py", "train"]
    options = ["--max-steps", "2", "--batch-size", "2", "--max-length", "64", "--json", "--out", run]
    data = ["--data", tmp_path / "rows.jsonl"]
    done = run_all([sys.executable, *command, tmp_path / "model", *data, *options])
    assert done.returncode == 0, done.stderr[-4000:]
    record = json.loads(done.stdout)  # printed once
    assert record["steps"] == 2
    assert sorted(path.name for path in run.iterdir()) == [
        "adapter", "checkpoints", "plan.json", "profile.json", "settings.json"
    ]  # fmt: skip
    assert done.stderr.count("Wrote ") == 1
    assert done.stderr.count("warning: The order of the layers") == 1
