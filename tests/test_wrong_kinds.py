"""An object of the wrong kind (a name, a class, None, another object) gets a precise error from every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import transformers

import rankselect as rs
from rankselect.data.encoding import encode_rows
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL, TOKENIZER, TEXTS = tiny_model(), tiny_tokenizer(), tiny_texts(40)
ROWS = [rs.QuestionAnswer("What?", "A fever.")] * 8
PLAN = rs.Fixed(2).plan(MODEL)
MODELS = ["a-name", None, {}, transformers.LlamaForCausalLM, TOKENIZER]
TOKENIZERS = ["a-name", {}, transformers.PreTrainedTokenizerFast, MODEL]
TEMPLATES = ["{question} {answer}", rs.PromptTemplate, {}]
PLANS = ["plan.json", rs.Fixed(2), rs.Fixed, {}]
PATHS = [MODEL, 3, {}]

CALLS: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "id_profile model": (lambda x: rs.id_profile(x, TOKENIZER, TEXTS), MODELS),
    "id_profile tokenizer": (lambda x: rs.id_profile(MODEL, x, TEXTS), [*TOKENIZERS, None]),
    "id_profile estimator": (lambda x: rs.id_profile(MODEL, TOKENIZER, TEXTS, estimator=x), [rs.TwoNN, None, "no"]),
    "id_profile texts": (lambda x: rs.id_profile(MODEL, TOKENIZER, x), ["a text", None, 3, str]),
    "Calibration tokenizer": (lambda x: rs.Calibration(MODEL, x, TEXTS), TOKENIZERS),
    "plan model": (lambda x: rs.Fixed(2).plan(x), MODELS),
    "plan evidence": (lambda x: rs.PerLayerID().plan(MODEL, x), ["p.json", None, {}, rs.IDProfile]),
    "plan of a class": (lambda x: rs.PerLayerID.plan(MODEL, x), [None]),
    "encode_rows tokenizer": (lambda x: encode_rows(ROWS, x), [*TOKENIZERS, None]),
    "encode_rows template": (lambda x: encode_rows(ROWS, TOKENIZER, template=x), TEMPLATES),
    "load_rows template": (lambda x: rs.load_rows([{"text": "a"}], template=x), TEMPLATES),
    "generate_answers model": (lambda x: rs.generate_answers(x, TOKENIZER, ["What?"]), MODELS),
    "generate_answers tokenizer": (lambda x: rs.generate_answers(MODEL, x, ["What?"]), [*TOKENIZERS, None]),
    "generate_answers template": (lambda x: rs.generate_answers(MODEL, TOKENIZER, ["What?"], template=x), TEMPLATES),
    "generate_answers questions": (lambda x: rs.generate_answers(MODEL, TOKENIZER, x), ["What?", None, 3]),
    "answer_losses model": (lambda x: rs.answer_losses(x, TOKENIZER, ROWS), MODELS),
    "answer_losses tokenizer": (lambda x: rs.answer_losses(MODEL, x, ROWS), [*TOKENIZERS, None]),
    "answer_losses template": (lambda x: rs.answer_losses(MODEL, TOKENIZER, ROWS, template=x), TEMPLATES),
    "estimate_memory model": (lambda x: rs.estimate_memory(x, PLAN, batch_size=1, length=8), MODELS),
    "estimate_memory plan": (lambda x: rs.estimate_memory(MODEL, x, batch_size=1, length=8), [*PLANS, None]),
    "largest_fit plan": (lambda x: rs.largest_fit(MODEL, x, "1GB"), [*PLANS, None]),
    "attach_adapter model": (lambda x: rs.attach_adapter(x, "a"), MODELS),
    "attach_adapter path": (lambda x: rs.attach_adapter(MODEL, x), [*PATHS, None]),
    "merge_adapter adapter": (lambda x: rs.merge_adapter(x, "out"), [*PATHS, None]),
    "export_adapter adapter": (lambda x: rs.export_adapter(x, "out"), [*PATHS, None]),
    "verify model": (PLAN.verify, MODELS),
    "layer_names model": (rs.layer_names, MODELS),
    "RankPlan.load": (rs.RankPlan.load, [*PATHS, None]),
    "IDProfile.load": (rs.IDProfile.load, [*PATHS, None]),
    "Arm strategy": (lambda x: rs.Arm("a", x), [rs.Fixed, 3, "no-rule"]),
    "Shuffled strategy": (rs.Shuffled, [rs.Fixed, 3, None]),
    "StudyConfig model": (lambda x: rs.StudyConfig(x, "medical-qa", arms=[rs.Arm("base")]), [*PATHS, None]),
    "StudyConfig train": (lambda x: rs.StudyConfig("small-phi", x, arms=[rs.Arm("base")]), [*PATHS, None]),
    "metric": (lambda x: rs.TokenF1().evaluate(x, x), ["a", None, 3]),
}
CASES = [
    pytest.param(call, given, id=f"{name}-{given!r:.30}") for name, (call, all_) in CALLS.items() for given in all_
]


@pytest.mark.parametrize(("call", "given"), CASES)
def test_a_wrong_kind_gets_a_precise_error(
    call: Callable[[Any], Any], given: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(rs.RankSelectError, match=r"(?s)expected .+, got .+\. .+") as caught:
        call(given)
    assert type(caught.value) is not rs.RankSelectError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["strategy", "plan", "args", "processing_class", "template", "model"])
@pytest.mark.parametrize("given", [3, {}, dict, "no-such-thing"])
def test_the_trainer_refuses_a_wrong_kind(name: str, given: object, tmp_path: Path) -> None:
    args = transformers.TrainingArguments(str(tmp_path / "out"), report_to="none", use_cpu=True)
    right: dict[str, Any] = {"model": MODEL, "args": args, "train_dataset": ROWS, "processing_class": TOKENIZER}
    right |= {} if name == "plan" else {"strategy": "fixed:2"}
    with pytest.raises(rs.RankSelectError, match="expected .+, got .+"):
        rs.RankSelectTrainer(**right | {name: given})
