"""Runs a study whose config has no default value in it, and keeps what reached whoever does the work."""

from __future__ import annotations

import inspect
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import rankselect as rs
from rankselect.study import base_model, work
from rankselect.study.arm import Arm
from rankselect.study.config import StudyConfig
from rankselect.study.study import Study
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rankselect.study.run import Run, RunResult

TEMPLATE = rs.PromptTemplate("Q: {question}\nA: {answer}")
BEST = (5e-3, 4.0)
"""The learning rate and alpha ratio of the least loss on the validation rows, and of the greatest on the test rows."""
ARMS = (
    Arm("base"),
    Arm("rank-2", "fixed:rank=2"),
    Arm("by-layer", rs.PerLayerID(), learning_rates=(4e-3,), alpha_ratios=(3.0,)),
)


def unusual_config(folder: Path) -> StudyConfig:
    """Write a model and rows, and describe a study of them in which every value differs from its default."""
    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    for name, n, seed in (("train", 40, 0), ("test", 6, 1)):
        texts = enumerate(tiny_texts(n, seed=seed))
        rows = [{"both": TEMPLATE.text(f"why {name} {index}", text)} for index, text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return StudyConfig(
        str(folder / "model"),
        str(folder / "train.jsonl"),
        str(folder / "test.jsonl"),
        arms=ARMS,
        seeds=(3, 11),
        metrics=("token-f1", "perplexity"),
        n_train=30,
        n_test=4,
        validation_share=0.3,
        template=TEMPLATE.template,
        max_length=48,
        quantization="nf4",
        dtype="float32",
        device_map="cpu",
        target_modules=("q_proj", "down_proj"),
        learning_rates=(2e-3, 5e-3),
        alpha_ratios=(2.0, 4.0),
        epochs=2.5,
        max_steps=2,
        batch_size=3,
        accumulation=2,
        lora_dropout=0.25,
        gradient_checkpointing=True,
        profile_samples=20,
        profile_after=True,
        max_new_tokens=7,
        generation_batch_size=5,
        dropout_too=True,
        question="prompt",
        answer="reply",
        text="both",
        skip_faulty=True,
        pooling="last",
        estimator="twonn:discard_fraction=0.2",
    )


@dataclass
class Call:
    """A call: of what, in which run (None before the first), with which arguments, and what came of it."""

    what: str
    run: Run | None
    arguments: dict[str, Any]
    returned: Any = None

    def __getattr__(self, name: str) -> Any:
        try:
            return self.arguments[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass
class Spied:
    """A study that was run, and the calls it made."""

    config: StudyConfig
    folder: Path
    calls: list[Call] = field(default_factory=list)
    results: list[RunResult] = field(default_factory=list)
    run: Run | None = None

    def of(self, what: str, **run: Any) -> list[Call]:
        """The calls of one kind, within runs that have these values."""
        calls = [call for call in self.calls if call.what == what]
        return [call for call in calls if all(getattr(call.run, name, None) == run[name] for name in run)]

    def watch(self, what: str, real: Callable[..., Any], instead: Callable[..., Any] | None = None) -> Any:
        """A function that notes how it is called, by the names of `real`'s arguments, and does what `real` does."""
        signature = inspect.signature(real)

        def watched(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            call = Call(what, self.run, dict(bound.arguments))
            self.calls.append(call)
            call.returned = (instead or real)(*args, **kwargs)
            return call.returned

        return watched


class Announcing(rs.Executor):
    """One run after the other, each announced before it is done."""

    def __init__(self, spied: Spied) -> None:
        self.spied = spied

    def run(self, work: Callable[[Run], RunResult], runs: Any) -> Iterator[RunResult]:
        for run in runs:
            self.spied.run = run
            yield work(run)


@contextmanager
def spies(spied: Spied) -> Iterator[None]:
    """Watch the trainer and calibration at work, and stand in for quantisation, generation and losses."""
    real_load = base_model.load_model

    def load_model(name: Any, *, quantization: str, dtype: str, device_map: str) -> Any:
        return real_load(name, quantization="none", dtype=dtype, device_map=device_map)

    def answer_losses(model: Any, tokenizer: Any, rows: list[Any], **_: Any) -> list[float]:
        is_best = spied.run is not None and (spied.run.learning_rate, spied.run.alpha_ratio) == BEST
        is_test = rows[0].question.startswith("why test")
        return [1.0 + 0.5 * (is_best == is_test) + 0.01 * index for index in range(len(rows))]

    def generate_answers(model: Any, tokenizer: Any, questions: list[str], *, dropout: bool, **_: Any) -> list[Any]:
        """Right answers to every second question: the first, the third, ...; with dropout on, to the others."""
        right = {f"why test {index}": text for index, text in enumerate(tiny_texts(6, seed=1))}
        texts = [right[each] if (index % 2 == 0) != dropout else "no idea" for index, each in enumerate(questions)]
        return [rs.GeneratedAnswer(text, 0.5, 3, "end") for text in texts]

    with pytest.MonkeyPatch.context() as patch:
        for module, name, instead in (
            (base_model, "load_model", load_model),
            (work, "RankSelectTrainer", None),
            (work, "Calibration", None),
            (work, "generate_answers", generate_answers),
            (work, "answer_losses", answer_losses),
        ):
            patch.setattr(module, name, spied.watch(name, getattr(module, name), instead))
        yield


def run_spied(folder: Path) -> Spied:
    """Run the whole study of `unusual_config` under the spies."""
    spied = Spied(unusual_config(folder), folder / "study")
    with spies(spied):
        spied.results = Study(spied.config, spied.folder).run(executor=Announcing(spied), progress=False)
    return spied
