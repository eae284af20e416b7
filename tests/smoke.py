"""Does an installed rankselect work? Run alone, without pytest, it tries every room of the library once.

It prints which versions ran and what each room took. It ends with 1 if a room fails. A room that needs an extra that
is not installed is left out and named; with --all that is a failure too. Start it in a folder from which the
sources cannot be imported: `make test-wheel` and `make test-lowest` do.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DATA_FILES = (
    "__init__.pyi",
    "data/conditions.jsonl",
    "py.typed",
    "study/report/page.css",
    "study/report/page.html",
    "study/report/page.js",
    "study/report/parts.html",
)
EXTRAS = {  # the package that shows that an extra is there
    "skdim": "skdim",
    "quantized": "bitsandbytes",
    "plot": "matplotlib",
    "cli": "typer",
    "data": "datasets",
    "metrics": "bert_score",
    "questeval": "spacy",
    "judge": "openai",
    "study": "pandas",
    "ray": "ray",
}


def installation(folder: Path) -> None:
    import rankselect as rs

    found = Path(rs.__file__).resolve().parent
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    assert found.parent in places, f"imported from {found}, which is not installed"
    for name in DATA_FILES:
        assert (found / name).is_file(), f"{name} is not in the package"
    for name in rs.__all__:
        getattr(rs, name)


def neighbors(folder: Path) -> None:
    from rankselect.neighbors.nearest import nearest_neighbors

    found = nearest_neighbors([[0.0], [1.0], [0.0], [3.0]], 1)
    assert found.distances.ravel().tolist() == [1.0, 1.0, 2.0]
    assert found.n_duplicates == 1


def estimators(folder: Path) -> None:
    import rankselect as rs
    from rankselect.testing import check_estimator

    for name in ("twonn", "mle", "gride"):
        check_estimator(name)
    if has("skdim"):
        import numpy as np

        points = np.random.default_rng(0).normal(size=(100, 3)) @ np.eye(3, 50)
        assert rs.estimator("skdim:lPCA").estimate(points).value == 3


def models(folder: Path) -> None:
    import rankselect as rs

    assert rs.load_tokenizer(folder / "model").bos_token == "<s>"
    assert rs.empty_model(folder / "model").device.type == "meta"
    for quantization in ("none", "nf4", "int8") if has("quantized") else ("none",):
        model = rs.load_model(folder / "model", quantization=quantization, device_map="cpu")
        assert rs.layer_names(model) == ("model.layers.0", "model.layers.1")


def data(folder: Path) -> None:
    import rankselect as rs

    assert len(rs.medical_qa()) == 1024
    assert len(rs.load_rows(folder / "rows.jsonl")) == 40
    if has("data"):
        (folder / "hub").mkdir()
        (folder / "hub" / "train.jsonl").write_bytes((folder / "rows.jsonl").read_bytes())
        assert len(rs.load_rows(str(folder / "hub") + ":train", progress=False)) == 40


def plans(folder: Path) -> None:
    from peft import get_peft_model

    import rankselect as rs
    from rankselect.testing import tiny_model

    for architecture in ("llama", "gpt2"):
        model = tiny_model(architecture)
        plan = rs.Fixed(4).plan(model)
        plan.verify(get_peft_model(model, plan.to_lora_config(task_type="CAUSAL_LM")))


def calibration(folder: Path) -> None:
    import rankselect as rs
    from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

    profile = rs.id_profile(tiny_model(), tiny_tokenizer(), tiny_texts(60), progress=False)
    profile.save(folder / "profile.json")
    assert (rs.IDProfile.load(folder / "profile.json").values == profile.values).all()


def strategies(folder: Path) -> None:
    import rankselect as rs
    from rankselect.testing import check_strategy

    named = [entry.name for entry in importlib.metadata.entry_points(group="rankselect.strategies")]
    assert len(named) == 18, named
    for name in set(named) - {"same-parameters", "shuffled", "tilted", "by-type"}:
        check_strategy(f"{name}:rank=4" if name == "fixed" else name)
    for control in (rs.SameParameters, rs.Shuffled, rs.Tilted, rs.ByType):
        check_strategy(control(rs.PerLayerID()))


def memory(folder: Path) -> None:
    import rankselect as rs
    from rankselect.testing import tiny_model

    for architecture in ("llama", "gpt2"):
        model = tiny_model(architecture)
        plan = rs.Fixed(8).plan(model)
        peaks = {
            (quantization, device): rs.estimate_memory(
                model, plan, batch_size=2, length=64, quantization=quantization, device=device
            ).peak
            for quantization in ("none", "nf4", "int8")
            for device in ("cpu", "cuda")
        }
        assert min(peaks.values()) > 0
    assert rs.largest_fit(model, plan, 16 * 2**20, length=64).batch_size > 8
    assert rs.savings(model, plan, batch_size=4, length=128)


def training(folder: Path) -> None:
    from transformers import TrainingArguments

    import rankselect as rs

    rows = rs.load_rows(folder / "rows.jsonl")
    for quantization in ("none", "nf4") if has("quantized") else ("none",):
        out = folder / f"trained-{quantization}"
        arguments = TrainingArguments(
            str(out / "checkpoints"), max_steps=3, save_steps=2, report_to="none", disable_tqdm=True, use_cpu=True
        )
        tokenizer = rs.load_tokenizer(folder / "model")
        model = rs.load_model(folder / "model", quantization=quantization, device_map="cpu")
        trainer = rs.RankSelectTrainer(
            model,
            arguments,
            strategy="per-layer-id",
            train_dataset=rows[4:],
            eval_dataset=rows[:4],
            processing_class=tokenizer,
        )
        trainer.train()
        assert trainer.record.steps == 3
        trainer.save_adapter(out / "adapter")
        [answer] = rs.generate_answers(trainer.model, tokenizer, ["why"], max_new_tokens=4, progress=False)
        assert answer.n_tokens <= 4
        assert len(rs.answer_losses(trainer.model, tokenizer, rows[:3])) == 3


def adapters(folder: Path) -> None:
    import rankselect as rs

    for quantization in ("none", "nf4") if has("quantized") else ("none",):
        out = folder / f"trained-{quantization}"
        model = rs.load_model(folder / "model", quantization=quantization, device_map="cpu")
        rs.attach_adapter(model, out / "adapter")
        report = rs.merge_adapter(out / "adapter", out / "merged", progress=False)
        assert report.quantization == quantization, report
        assert report.difference is not None, report
        assert report.difference.relative < 1e-4, report
        rs.load_model(out / "merged", device_map="cpu")
        assert rs.export_adapter(out / "adapter", out / "served", target="vllm").rank >= 8
        rows = rs.load_rows(folder / "rows.jsonl")
        how = {"rows": rows, "weigh_inputs": True, "recover_steps": 2, "progress": False}
        resized = rs.resize_adapter(out / "adapter", out / "small", budget="50%", **how)
        assert resized.parameters_after <= resized.parameters_before / 2
        assert resized.loss_recovered is not None


def metrics(folder: Path) -> None:
    from rankselect.testing import check_metric

    for name in ("token-f1", "exact-match", "questeval-cloze", "perplexity"):
        check_metric(name)
    if has("metrics"):
        check_metric("rouge-l")
        bert_score(folder)
    if has("questeval"):
        questeval(folder)
    if has("judge"):
        judge()


def bert_score(folder: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    import rankselect as rs
    from rankselect.testing import check_metric

    encoder, words = str(folder / "bert"), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "heart", "liver", "a"]
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}, model_max_length=64)
    tokenizer.save_pretrained(encoder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)).save_pretrained(encoder)
    check_metric(rs.BertScore(encoder, num_layers=2), tolerance=1e-4)


def questeval(folder: Path) -> None:
    import sentencepiece
    import spacy
    from transformers import T5Config, T5ForConditionalGeneration

    import rankselect as rs
    from rankselect.metrics.questeval import SpacySelector, T5QuestionGenerator

    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "ORGAN", "pattern": "heart"}])
    pipeline.to_disk(folder / "spacy")
    selector = SpacySelector(str(folder / "spacy"), answer_types=("NER",))
    assert selector.select(["The heart pumps blood."]) == [["heart"]]
    config = T5Config(vocab_size=400, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(folder / "t5")
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([row.answer for row in rs.medical_qa()[:200]]),
        model_prefix=str(folder / "t5" / "spiece"),
        vocab_size=300,
        minloglevel=2,
        **ids,
    )
    assert len(T5QuestionGenerator(str(folder / "t5")).generate([("heart", "The heart pumps blood.")])) == 1


def judge() -> None:
    import rankselect as rs

    server = HTTPServer(("127.0.0.1", 0), Tie)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}/v1"
        asked = rs.LLMJudge("tie", base_url=endpoint, api_key="none")
        result = asked.rank(["Why?", "How?"], {"one": ["a", "b"], "two": ["c", "d"]}, progress=False)
    finally:
        server.shutdown()
    assert [round(arm.probability, 3) for arm in result.ranking] == [0.5, 0.5], result


class Tie(BaseHTTPRequestHandler):
    """Answers as OpenAI's API does: no answer is better."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "[[tie]]"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "tie", "choices": [choice]}
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def study(folder: Path) -> None:
    import rankselect as rs

    if has("study"):
        whole_study(folder)
    if has("ray"):
        assert sorted(rs.RayExecutor().run(str, [2, 1])) == ["1", "2"]


def whole_study(folder: Path) -> None:
    import rankselect as rs

    config = rs.StudyConfig(
        str(folder / "model"),
        str(folder / "rows.jsonl"),
        arms=(rs.Arm("base"), rs.Arm("rank-2", "fixed:rank=2"), rs.Arm("per-layer", "per-layer-id")),
        seeds=2,
        metrics=("token-f1", "perplexity"),
        learning_rates=(1e-3,),
        max_steps=2,
        max_new_tokens=4,
        max_length=64,
        device_map="cpu",
        profile_after=True,
    )
    runs = rs.Study(config, folder / "study").run(progress=False)
    assert [run.status for run in runs] == ["done"] * 6, [run.error for run in runs]
    results = rs.StudyResults.load(folder / "study")
    assert len(results.table) >= 6
    assert str(results.verdict())
    results.write()
    page, text = rs.write_report(results)
    assert "<svg" in page.read_text(encoding="utf-8")
    assert "per-layer" in text.read_text(encoding="utf-8")


def cli(folder: Path) -> None:
    if not has("cli"):
        return
    command = Path(sys.executable).with_name("rankselect")  # as pip made it, beside this environment's Python
    assert "profile" in output(command, "--help")
    assert importlib.metadata.version("rankselect") in output(command, "--version")
    model, texts, out, picture = (folder / name for name in ("model", "rows.jsonl", "shown.json", "shown.png"))
    plot = ("--plot", picture) if has("plot") else ()
    output(command, "profile", model, "--data", texts, "--field", "answer", "--out", out, *plot)
    assert out.is_file()
    assert picture.is_file() or not plot
    asked = ("--strategy", "per-layer-id", "--profile", out, "--format", "peft")
    assert "rank_pattern" in output(command, "plan", model, *asked)


def output(*arguments: object) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run([str(each) for each in arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


ROOMS = (
    *(installation, neighbors, estimators, models, data, plans, calibration, strategies, memory),
    *(training, adapters, metrics, study, cli),  # adapters takes what training has saved
)
absent: set[str] = set()


def has(extra: str) -> bool:
    """Is an extra installed? If not, it is noted."""
    there = importlib.util.find_spec(EXTRAS[extra]) is not None
    if not there:
        absent.add(extra)
    return there


def show_versions() -> None:
    requirements = importlib.metadata.requires("rankselect") or []
    names = dict.fromkeys(re.match(r"[\w.-]+", line)[0] for line in requirements)  # type: ignore[index]
    print(f"Python {platform.python_version()}")
    for name in ("rankselect", *names):
        try:
            print(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue


def prepare(folder: Path) -> None:
    """A tiny model and 40 rows, which several rooms read; and no news but the smoke test's own."""
    import transformers

    from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()

    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    rows = [{"question": f"why {index}", "answer": text} for index, text in enumerate(tiny_texts(40))]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def tried(room: Callable[[Path], None], folder: Path) -> bool:
    """Try a room, and say how it went."""
    began = time.perf_counter()
    try:
        room(folder)
    except Exception:  # the other rooms are tried too
        traceback.print_exc()
        print(f"FAILED  {room.__name__}", flush=True)
        return False
    print(f"ok      {room.__name__:<14}{time.perf_counter() - began:5.1f} s", flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Try every room of the installed rankselect once.")
    parser.add_argument("--all", action="store_true", help="fail if an extra is not installed")
    everything = parser.parse_args().all
    show_versions()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        failed = [room.__name__ for room in ROOMS if not tried(room, folder)]
    for extra in sorted(absent):
        print(f"left out: what needs the extra {extra}, which is not installed")
    print(f"{len(ROOMS) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or (everything and absent) else 0


if __name__ == "__main__":
    sys.exit(main())
