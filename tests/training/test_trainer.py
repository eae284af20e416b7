"""The trainer: ranks, records, saving and resuming, on real models, PEFT and TRL."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import Trainer, TrainingArguments

import rankselect as rs
from rankselect.data.encoding import AnswerCollator, encode_rows
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")

ROWS = [rs.QuestionAnswer(f"What about {text.split()[0]} {i}?", text) for i, text in enumerate(tiny_texts(40))]


def arguments(folder, **changes):
    settings = {
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "learning_rate": 5e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 3,
        "use_cpu": True,
    }
    return TrainingArguments(str(folder), **{**settings, **changes})


def make_trainer(folder, *, changes=None, **keywords):
    how = {"strategy": rs.Fixed(4), "train_dataset": ROWS, "processing_class": tiny_tokenizer(), "max_length": 64}
    if "plan" in keywords:
        del how["strategy"]
    return rs.RankSelectTrainer(tiny_model(), arguments(folder, **(changes or {})), **{**how, **keywords})


def logits_of(model):
    tokens = torch.arange(2, 24)[None]
    model.eval()
    with torch.no_grad():
        return model(input_ids=tokens).logits


def test_a_strategy_measures_on_the_rows_and_its_plan_is_built_and_trained(tmp_path):
    trainer = make_trainer(tmp_path, strategy=rs.PerLayerID())
    assert trainer.profile.measurement.n_texts <= len(ROWS)
    assert trainer.plan.strategy == "PerLayerID()"
    trainer.plan.verify(trainer.model)
    trainer.train()
    losses = [loss for _, loss in trainer.record.losses]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert trainer.profile_after is None


def test_progress_counts_steps_and_shows_the_loss(tmp_path, capsys):
    make_trainer(tmp_path, changes={"max_steps": 2, "disable_tqdm": False}).train()
    assert re.search(r"Training: 100%.* 2/2 .*loss=\d", capsys.readouterr().err)


def test_measured_evidence_and_a_finished_plan_are_taken_as_they_are(tmp_path):
    profile = rs.IDProfile.from_values({"model.layers.0": 2.0, "model.layers.1": 5.0})
    trainer = make_trainer(tmp_path, strategy=rs.PerLayerID(), evidence=profile, plan_arguments={"alpha_ratio": 2.0})
    assert trainer.profile is profile
    assert set(trainer.plan.ranks.values()) == {2, 5}
    again = make_trainer(tmp_path, plan=trainer.plan)
    assert again.plan is trainer.plan
    assert again.record.trainable_parameters == trainer.model.get_nb_trainable_parameters()[0]


def test_a_strategy_by_its_name_is_that_strategy(tmp_path):
    named, made = (make_trainer(tmp_path, strategy=each) for each in ("fixed:rank=4", rs.Fixed(4)))
    assert named.plan == made.plan
    assert make_trainer(tmp_path, strategy="per-layer-id").plan.strategy == "PerLayerID()"


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        (
            {"strategy": rs.Fixed},
            rs.errors.ArgumentError,
            "expected a strategy, or the name of one, got the class Fixed.",
        ),
        ({"strategy": 8}, rs.errors.ArgumentError, "a strategy, or the name of one, got 8."),
        ({"strategy": "fixd:rank=4"}, rs.errors.UnknownNameError, "got 'fixd'. Did you mean fixed?"),
        ({"strategy": "fixed:ranks=4"}, rs.errors.ArgumentError, "expected arguments that fixed takes, got 'ranks=4'."),
        ({"plan": "plan.json"}, rs.errors.ArgumentError, "expected a RankPlan, got 'plan.json'. Load a saved one with"),
        (
            {"processing_class": "gpt2"},
            rs.errors.ArgumentError,
            "a tokenizer as processing_class, got 'gpt2'.",
        ),
        ({"template": "{question}"}, rs.errors.ArgumentError, "expected a PromptTemplate, got '{question}'."),
        ({"evidence": "profile.json"}, rs.errors.EvidenceError, "expected evidence of the class IDProfile"),
    ],
)
def test_arguments_of_the_wrong_type(tmp_path, keywords, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make_trainer(tmp_path, **{"strategy": rs.PerLayerID(), **keywords} if "plan" not in keywords else keywords)


@pytest.mark.parametrize("model", ["gpt2", torch.nn.Linear, None])
def test_a_model_that_is_not_loaded(tmp_path, model):
    with pytest.raises(rs.errors.ModelError, match="expected a model"):
        rs.RankSelectTrainer(model, arguments(tmp_path), strategy=rs.Fixed(4), train_dataset=ROWS)


def test_the_output_folder_instead_of_training_arguments(tmp_path):
    with pytest.raises(rs.errors.ArgumentError, match="expected TrainingArguments, got"):
        rs.RankSelectTrainer(tiny_model(), str(tmp_path), strategy=rs.Fixed(4), train_dataset=ROWS)


def test_profiling_after_training_measures_the_adapted_model_on_the_same_texts(tmp_path):
    trainer = make_trainer(tmp_path, strategy=rs.IntrinsicMax(), profile_after=True)
    trainer.train()
    assert trainer.profile_after.layers == trainer.profile.layers
    assert trainer.profile_after.measurement.n_texts == trainer.profile.measurement.n_texts
    assert (trainer.profile_after.values != trainer.profile.values).any()


def test_the_record_counts_tokens_exactly_and_survives_its_file(tmp_path):
    trainer = make_trainer(tmp_path, changes={"max_steps": -1, "num_train_epochs": 2})
    trainer.train()
    encoded = encode_rows(ROWS, tiny_tokenizer(), max_length=64)
    record = trainer.record
    assert record.tokens == 2 * sum(len(row["input_ids"]) for row in encoded)
    assert record.seconds > 0
    assert record.tokens_per_second == record.tokens / record.seconds
    assert record.peak_memory_bytes > 10 * 2**20
    record.save(tmp_path)
    from rankselect.adapters.record import TrainingRecord

    assert TrainingRecord.load(tmp_path) == record
    named = replace(record, base_model="microsoft/phi-2")
    named.save(tmp_path)
    assert TrainingRecord.load(tmp_path) == named


def test_a_saved_adapter_loads_in_plain_peft_with_the_same_logits(tmp_path):
    trainer = make_trainer(tmp_path, strategy=rs.IntrinsicMean())
    trainer.train()
    trainer.save_adapter(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path / "adapter")
    torch.testing.assert_close(logits_of(loaded), logits_of(trainer.model), rtol=0, atol=0)
    assert rs.RankPlan.load(tmp_path / "adapter" / "plan.json") == trainer.plan
    assert (rs.IDProfile.load(tmp_path / "adapter" / "profile.json").values == trainer.profile.values).all()
    with pytest.raises(rs.errors.SaveError, match="expected a new or empty folder"):
        trainer.save_adapter(tmp_path / "adapter")


def test_the_loss_is_that_of_a_plain_trainer_with_the_same_config(tmp_path):
    ours = make_trainer(tmp_path / "ours")
    ours.train()
    model = tiny_model()
    torch.manual_seed(3)
    plain = Trainer(
        get_peft_model(model, ours.plan.to_lora_config(task_type="CAUSAL_LM")),
        arguments(tmp_path / "plain"),
        train_dataset=encode_rows(ROWS, tiny_tokenizer(), max_length=64),
        data_collator=AnswerCollator(0),
    )
    ours.plan.verify(plain.model)
    plain.train()
    losses = [entry["loss"] for entry in plain.state.log_history if "loss" in entry]
    assert losses == [loss for _, loss in ours.record.losses]


def test_the_same_plan_goes_through_trl(tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model = tiny_model()
    plan = rs.PerLayerID().plan(model, rs.IDProfile.from_values({"model.layers.0": 2.0, "model.layers.1": 5.0}))
    trainer = SFTTrainer(
        model,
        SFTConfig(str(tmp_path), max_steps=2, report_to="none", use_cpu=True, disable_tqdm=True, bf16=False),
        train_dataset=Dataset.from_list([{"text": text} for text in tiny_texts(20)]),
        processing_class=tiny_tokenizer(),
        peft_config=plan.to_lora_config(task_type="CAUSAL_LM"),
    )
    plan.verify(trainer.model)
    assert trainer.train().training_loss > 0


def test_rows_as_mappings_train_the_same_adapter(tmp_path):
    mappings = [{"question": row.question, "answer": row.answer} for row in ROWS]
    losses = []
    for rows in (ROWS, mappings):
        trainer = make_trainer(tmp_path / str(len(losses)), train_dataset=rows, changes={"max_steps": 2})
        trainer.train()
        losses.append(trainer.record.losses)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("rows", ["train.jsonl", ["a text"], [{"prompt": "a", "chosen": "b"}]])
def test_a_dataset_of_neither_rows_nor_tokens_is_an_error_at_once(tmp_path, rows):
    for handed in ({"train_dataset": rows}, {"eval_dataset": rows}):
        with pytest.raises(rs.errors.DataError):
            make_trainer(tmp_path, **handed)


def test_tokens_pass_through_with_a_plan_and_an_evaluation_set_is_scored(tmp_path):
    plan = rs.Fixed(2).plan(tiny_model())
    encoded = encode_rows(ROWS, tiny_tokenizer(), max_length=64)
    trainer = make_trainer(
        tmp_path,
        plan=plan,
        train_dataset=encoded,
        eval_dataset=encoded,
        data_collator=AnswerCollator(0),
    )
    trainer.train()
    trainer.evaluate()
    assert trainer.record.evaluation_losses[0][0] == 6


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantised_base_is_prepared_and_trained(tmp_path, quantization):
    tiny_model().save_pretrained(tmp_path / "base")
    model = rs.load_model(tmp_path / "base", quantization=quantization, device_map="cpu")
    trainer = rs.RankSelectTrainer(
        model,
        arguments(tmp_path, max_steps=30),
        strategy=rs.PerLayerID(),
        train_dataset=ROWS,
        processing_class=tiny_tokenizer(),
        max_length=64,
        profile_after=True,
    )
    trainer.train()
    assert trainer.record.quantization == quantization
    losses = [loss for _, loss in trainer.record.losses]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_gradient_checkpointing_changes_no_loss(tmp_path):
    kept = make_trainer(tmp_path)
    kept.train()
    computed_twice = make_trainer(tmp_path, changes={"gradient_checkpointing": True})
    computed_twice.train()
    assert computed_twice.model.base_model.model.model.gradient_checkpointing
    for (_, ours), (_, theirs) in zip(computed_twice.record.losses, kept.record.losses, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_arguments_that_cannot_be_trained_with(tmp_path):
    plan = rs.Fixed(2).plan(tiny_model())
    with pytest.raises(rs.errors.ArgumentError, match="expected a strategy or a plan, got both"):
        make_trainer(tmp_path, strategy=rs.Fixed(2), plan=plan) if False else rs.RankSelectTrainer(
            tiny_model(), arguments(tmp_path), strategy=rs.Fixed(2), plan=plan, train_dataset=ROWS,
            processing_class=tiny_tokenizer(),
        )  # fmt: skip
    with pytest.raises(rs.errors.ArgumentError, match="expected a strategy or a plan, got neither"):
        make_trainer(tmp_path, strategy=None)
    with pytest.raises(rs.errors.ArgumentError, match="expected a plan without plan_arguments, got plan_arguments"):
        make_trainer(tmp_path, plan=plan, plan_arguments={"max_rank": 2})
    with pytest.raises(rs.errors.ArgumentError, match="expected a tokenizer for question-answer rows, got none"):
        make_trainer(tmp_path, processing_class=None)
    encoded = encode_rows(ROWS, tiny_tokenizer(), max_length=64)
    with pytest.raises(rs.errors.EvidenceError, match="evidence of the class IDProfile"):
        make_trainer(tmp_path, strategy=rs.PerLayerID(), train_dataset=encoded)
    with pytest.raises(rs.errors.ArgumentError, match="texts to profile after training"):
        make_trainer(tmp_path, plan=plan, train_dataset=encoded, profile_after=True)
    with pytest.raises(rs.errors.ModelError, match="a model without an adapter"):
        rs.RankSelectTrainer(
            get_peft_model(tiny_model(), plan.to_lora_config()),
            arguments(tmp_path),
            plan=plan,
            train_dataset=encoded,
        )


def test_training_questions_in_the_evaluation_rows_are_a_warning(tmp_path):
    with pytest.warns(rs.RankSelectWarning, match="question"):
        make_trainer(tmp_path, eval_dataset=ROWS[:3])


def test_a_run_killed_at_any_step_ends_with_the_loss_of_an_uninterrupted_one(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            sys.path.insert(0, sys.argv[3])
            from transformers import TrainerCallback
            from training import test_trainer as here

            class Kill(TrainerCallback):
                def on_step_end(self, args, state, control, **kwargs):
                    if state.global_step == int(sys.argv[2]):
                        os.kill(os.getpid(), signal.SIGKILL)

            changes = {"max_steps": 9, "save_strategy": "steps", "save_steps": 2, "gradient_accumulation_steps": 2}
            here.make_trainer(sys.argv[1], changes=changes, lora_arguments={"lora_dropout": 0.1},
                              callbacks=[Kill()]).train()
            """
        ),
        encoding="utf-8",
    )
    changes = {"max_steps": 9, "save_strategy": "steps", "save_steps": 2, "gradient_accumulation_steps": 2}
    whole = make_trainer(tmp_path / "whole", changes=changes, lora_arguments={"lora_dropout": 0.1})
    whole.train()
    tests = str(__import__("pathlib").Path(__file__).parents[1])
    for step in (3, 6):
        folder = tmp_path / f"killed-{step}"
        killed = subprocess.run([sys.executable, script, folder, str(step), tests], capture_output=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
        resumed = make_trainer(folder, changes=changes, lora_arguments={"lora_dropout": 0.1})
        resumed.train(resume_from_checkpoint=True)
        assert resumed.record.first_step == 2 * (step // 2) if step != 6 else resumed.record.first_step in (4, 6)
        assert len(resumed.record.losses) == 9
        assert resumed.record.losses[-1][1] == pytest.approx(whole.record.losses[-1][1], abs=1e-5)
        torch.testing.assert_close(logits_of(resumed.model), logits_of(whole.model), rtol=1e-5, atol=1e-5)


def test_an_incomplete_checkpoint_is_skipped_and_another_plan_is_an_error(tmp_path):
    changes = {"save_strategy": "steps", "save_steps": 2}
    make_trainer(tmp_path, changes=changes).train()
    newest = tmp_path / "checkpoint-6"
    (newest / "trainer_state.json").write_text("{", encoding="utf-8")
    weights = tmp_path / "checkpoint-4" / "adapter_model.safetensors"
    resumed = make_trainer(tmp_path, changes=changes)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.record.first_step == 4
    with pytest.raises(
        rs.errors.PlanMismatchError, match="a checkpoint of the same plan, got .* differs in r, lora_alpha"
    ):
        make_trainer(tmp_path, changes=changes, strategy=rs.Fixed(3)).train(resume_from_checkpoint=True)
    with pytest.raises(rs.errors.ArgumentError, match="a complete checkpoint to resume from, got none"):
        make_trainer(tmp_path / "empty", changes=changes).train(resume_from_checkpoint=True)
    assert weights.is_file()
    state = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["global_step"] == 6  # written again by the resumed run


@pytest.mark.parametrize(
    "lora_arguments",
    [{}, {"modules_to_save": ["lm_head"]}, {"use_dora": True}, {"trainable_token_indices": [3, 4]}, {"bias": "all"}],
)
@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_the_record_counts_what_is_trained(tmp_path, lora_arguments):
    arguments = TrainingArguments(tmp_path, max_steps=1, report_to="none", disable_tqdm=True, use_cpu=True)
    trainer = rs.RankSelectTrainer(
        tiny_model(),
        arguments,
        strategy=rs.Fixed(2),
        train_dataset=[rs.QuestionAnswer("What is a fever?", "A fever is heat.")] * 8,
        processing_class=tiny_tokenizer(),
        lora_arguments=lora_arguments,
    )
    trained = sum(each.numel() for each in trainer.model.parameters() if each.requires_grad)
    assert trainer.record.trainable_parameters == trained
    assert (trained > trainer.plan.trainable_parameters) == bool(lora_arguments.keys() - {"bias"})


def test_eva_is_refused_because_it_chooses_ranks_itself(tmp_path):
    with pytest.raises(
        rs.errors.ArgumentError, match='initial weights that go with a plan, got init_lora_weights="eva", which'
    ):
        rs.RankSelectTrainer(
            tiny_model(),
            TrainingArguments(tmp_path, report_to="none", use_cpu=True),
            strategy=rs.Fixed(2),
            train_dataset=[rs.QuestionAnswer("What is a fever?", "A fever is heat.")] * 8,
            processing_class=tiny_tokenizer(),
            lora_arguments={"init_lora_weights": "eva"},
        )
