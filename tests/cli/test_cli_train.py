"""`rankselect train` and `rankselect evaluate`: from rows to a scored adapter, in folders that PEFT can read."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

import interrupts
import rankselect as rs
from cli.conftest import write_jsonl
from rankselect.testing import tiny_texts

QUICK = [
    "--max-steps",
    "4",
    "--batch-size",
    "4",
    "--max-length",
    "64",
    "--learning-rate",
    "0.005",
    "--device-map",
    "cpu",
]


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "train.jsonl"
    write_jsonl(path, [{"question": f"why {i}", "answer": text} for i, text in enumerate(tiny_texts(40))])
    return path


@pytest.fixture(scope="session")
def held_out(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "eval.csv"
    lines = [f"how {i},{text}" for i, text in enumerate(tiny_texts(6, seed=1))]
    path.write_text("\n".join(["question,answer", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(run, model, rows, held_out, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = run("train", model, "--data", rows, "--eval-data", held_out, "--out", folder, "--json", *QUICK)
    assert result.exit_code == 0, result.output
    return folder, result


def test_training_writes_an_adapter_with_its_plan_profile_and_record(trained, model):
    folder, result = trained
    adapter = folder / "adapter"
    document = json.loads(result.stdout)
    assert document["adapter"] == str(adapter)
    assert document["steps"] == 4
    assert document["evaluation_losses"][0][0] == 4
    assert rs.TrainingRecord.load(adapter).strategy == "PerLayerID()"
    assert rs.IDProfile.load(adapter / "profile.json").layers == ("model.layers.0", "model.layers.1")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), adapter)
    rs.RankPlan.load(adapter / "plan.json").verify(loaded)
    for said in ("trainable parameters", "training loss", "evaluation loss", "tokens per second", "peak memory"):
        assert said in result.stderr


def test_the_options_for_ranks_reach_the_plan(run, model, rows, tmp_path):
    options = [
        "--strategy",
        "fixed:rank=8",
        "--max-rank",
        "3",
        "--alpha-ratio",
        "2.5",
        "--target-modules",
        "q_proj,up_proj",
    ]
    result = run("train", model, "--data", rows, "--out", tmp_path / "run", *QUICK, "--max-steps", "1", *options)
    assert result.exit_code == 0, result.output
    plan = rs.RankPlan.load(tmp_path / "run" / "adapter" / "plan.json")
    assert set(plan.ranks.values()) == {3}
    assert set(plan.alphas.values()) == {7.5}
    assert {name.rpartition(".")[2] for name in plan.ranks} == {"q_proj", "up_proj"}


def test_answers_are_generated_scored_and_written(run, trained, model, held_out, tmp_path):
    out = tmp_path / "answers.jsonl"
    metrics = ["--metric", "token-f1", "--metric", "exact-match", "--metric", "perplexity"]
    options = [*metrics, "--adapter", trained[0] / "adapter", "--max-new-tokens", "8", "--out", out, "--json"]
    result = run("evaluate", model, "--data", held_out, *options, "--device-map", "cpu")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["n_answers"] == 6
    assert list(document["scores"]) == ["token-f1", "exact-match", "perplexity"]
    assert document["scores"]["perplexity"]["higher_is_better"] is False
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    f1 = [line["scores"]["token-f1"] for line in lines]
    assert document["scores"]["token-f1"]["mean"] == pytest.approx(sum(f1) / 6)
    assert [line["question"] for line in lines] == [f"how {i}" for i in range(6)]
    assert "95 % interval" in result.stderr


def test_default_metrics_run_offline(run, model, held_out):
    result = run("evaluate", model, "--data", held_out, "--limit", "2", "--max-new-tokens", "4", "--device-map", "cpu")
    assert result.exit_code == 0, result.output
    assert all(name in result.stderr for name in ("token-f1", "questeval-cloze", "perplexity"))


def test_a_finished_run_or_another_run_is_not_overwritten(run, trained, model, rows, tmp_path):
    folder = trained[0]
    result = run("train", model, "--data", rows, "--out", folder, *QUICK)
    assert result.exit_code == 2
    assert "which is finished" in result.stderr
    result = run("train", model, "--data", rows, "--out", tmp_path, "--resume", *QUICK)
    assert "expected a run to resume, got none" in result.stderr
    shutil.copy(folder / "settings.json", tmp_path)
    shutil.copytree(folder / "checkpoints", tmp_path / "checkpoints")
    result = run("train", model, "--data", rows, "--out", tmp_path, *QUICK)
    assert "which contains a run" in result.stderr
    result = run("train", model, "--data", rows, "--out", tmp_path, "--resume", *QUICK, "--seed", "5")
    assert "seed 0 then, 5 now" in result.stderr
    other = tmp_path / "other.jsonl"
    other.write_text("".join(Path(rows).read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")
    settings = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))
    settings["settings"]["data"] = str(other)
    (tmp_path / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    result = run("train", model, "--data", other, "--out", tmp_path, "--resume", *QUICK)
    assert "expected the rows that the run was started with, got other rows" in " ".join(result.stderr.split())


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_run_in_which_nothing_was_trained_begins_anew(run, model, rows, tmp_path, resume):
    out = tmp_path / "run"
    failed = run("train", model, "--data", rows, "--out", out, *QUICK, "--max-length", "4096")
    assert failed.exit_code == 2
    out.mkdir(exist_ok=True)
    document = {"format": "rankselect.train_settings", "version": 1, "settings": {"seed": 3}}
    (out / "settings.json").write_text(json.dumps(document), encoding="utf-8")  # as a run leaves it that fails later
    result = run("train", model, "--data", rows, "--out", out, *QUICK, *resume)
    assert result.exit_code == 0, result.stderr
    assert (out / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learning-rate", "-1"], "a number above 0 for --learning-rate, got -1"),
        (["--epochs", "0"], "a number above 0 for --epochs, got 0"),
        (["--alpha-ratio", "nan"], "a number above 0 for --alpha-ratio, got nan"),
    ],
)
def test_numbers_are_checked_before_anything_is_loaded(run, rows, tmp_path, options, message):
    result = run("train", "no-such-model", "--data", rows, "--out", tmp_path / "run", *options)
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()


def test_a_plan_decides_alone(run, model, rows, tmp_path):
    plan = tmp_path / "plan.json"
    assert run("plan", model, "--strategy", "fixed:2", "--out", plan).exit_code == 0
    train = ("train", model, "--data", rows, "--plan", plan, "--out", tmp_path / "run", "--max-steps", "1")
    result = run(*train, "--strategy", "fixed:8", "--target-modules", "q_proj")
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "expected --plan without options that the plan decides, got --strategy, --target-modules." in said
    assert run(*train).exit_code == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert "strategy" not in settings
    record = rs.TrainingRecord.load(tmp_path / "run" / "adapter")
    assert record.strategy == "Fixed(rank=2)"


def test_progress_without_a_terminal_is_plain_lines(run, model, rows, tmp_path):
    result = run(
        "train", model, "--data", rows, "--strategy", "fixed:2", "--out", tmp_path / "run", "--max-steps", "20"
    )
    lines = [line for line in result.stderr.splitlines() if line.startswith("Training: step ")]
    assert len(lines) == 10
    assert re.fullmatch(r"Training: step 20 of 20, loss \d+\.\d{3}, 0 s left", lines[-1])


def test_evaluate_uses_the_template_of_the_adapter(run, model, rows, tmp_path):
    template = "Q: {question} A: {answer}"
    out = tmp_path / "run"
    trained = run("train", model, "--data", rows, "--strategy", "fixed:2", "--template", template, "--max-steps", "2",
                  "--out", out)  # fmt: skip
    assert trained.exit_code == 0, trained.stderr
    evaluate = ("evaluate", model, "--adapter", out / "adapter", "--data", rows, "--metric", "perplexity", "--limit", "4",
                "--max-new-tokens", "2", "--json")  # fmt: skip
    results = [run(*evaluate, *more) for more in ([], ["--template", template])]
    scores = [json.loads(result.stdout)["scores"]["perplexity"]["mean"] for result in results]
    assert scores[0] == scores[1]
    assert "question   " in results[0].stderr
    other = run(*evaluate, "--template", "{question} -> {answer}")
    assert other.exit_code == 2
    assert "expected the template that the adapter was trained with ('Q: {question} A: {answer}'), got" in " ".join(
        other.stderr.split()
    )
    forced = run(*evaluate, "--template", "{question} -> {answer}", "--force-template")
    assert json.loads(forced.stdout)["scores"]["perplexity"]["mean"] != scores[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--strategy", "per-layer"], "Did you mean per-layer-id"),
        (["--template", "{question}"], "expected a template with {question}"),
        (["--max-length", "4096"], "4096"),
        (["--profile", "none.json"], "none.json"),
    ],
)
def test_mistakes_are_one_line(run, trained, arguments, said):
    settings = json.loads((trained[0] / "settings.json").read_text(encoding="utf-8"))["settings"]
    model, rows, out = settings["model"], settings["data"], trained[0] / "new"
    result = run("train", model, "--data", rows, "--out", out, *QUICK, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_an_adapter_of_another_model_is_refused(run, trained, held_out, tmp_path):
    from rankselect.testing import tiny_model, tiny_tokenizer

    other = tmp_path / "gpt2"
    tiny_model("gpt2").save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    result = run("evaluate", other, "--data", held_out, "--adapter", trained[0] / "adapter", "--device-map", "cpu")
    assert result.exit_code == 2
    assert "expected an adapter of this base model" in result.stderr


def test_resuming_after_ctrl_c_gives_the_result_of_an_uninterrupted_run(model, rows, run, tmp_path):
    options = [*QUICK, "--max-steps", "20", "--save-steps", "20", "--strategy", "fixed:rank=2"]
    command = ["train", str(model), "--data", str(rows), "--out", str(tmp_path / "run"), *options]
    code, said = interrupts.run_and_press_ctrl_c(command, n_steps=8)
    assert code == 130, said
    assert "Stopped at step 8 with a checkpoint. Continue with: rankselect train" in said
    assert "--resume" in said
    result = run(*command, "--resume", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["first_step"], document["steps"]) == (8, 20)
    assert Path(document["adapter"]).is_dir()
