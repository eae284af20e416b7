"""The small base model that a study trains for itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import rankselect as rs
from rankselect.study import base_model
from rankselect.study.base_model import SMALL_PHI, prepare_base, study_model
from rankselect.study.rows import embedded_rows
from rankselect.study.run import Run
from rankselect.study.work import do_run
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

TEMPLATE = "Q: {question}\nA: {answer}"


@pytest.mark.parametrize("progress", [True, False])
def test_it_learns_the_rows_that_no_adapter_sees_in_the_study_s_template(monkeypatch, tmp_path, progress):
    calls = []

    def small_phi(**arguments):
        calls.append(arguments)
        return tiny_model(), tiny_tokenizer()

    monkeypatch.setattr(base_model, "small_phi", small_phi)
    config = rs.StudyConfig(SMALL_PHI, "medical-qa", arms=[rs.Arm("base")], template=TEMPLATE, max_new_tokens=8)
    prepare_base(config, tmp_path, progress=progress)
    template = rs.PromptTemplate(TEMPLATE)
    texts = [template.text(row.question, row.answer) for row in embedded_rows("base")]
    assert calls == [{"texts": texts, "progress": progress}]
    assert study_model(config, tmp_path).num_parameters() == tiny_model().num_parameters()
    prepare_base(config, tmp_path, progress=progress)  # it is there already
    assert len(calls) == 1


@dataclass(frozen=True)
class Texts(rs.Evidence):
    """The texts that a strategy was given."""

    texts: tuple

    @classmethod
    def measure(cls, calibration):
        return cls(tuple(calibration.texts))


@dataclass(frozen=True)
class OneRankForEachText(rs.RankStrategy):
    """A strategy whose evidence is not a profile."""

    evidence = Texts

    def ranks(self, targets, evidence):
        return {target.name: min(16, len(evidence.texts)) for target in targets}


def test_evidence_of_a_strategy_s_own_kind_is_measured_on_the_training_rows(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    rows = tmp_path / "rows.csv"
    lines = [f"why {n},{text}" for n, text in enumerate(tiny_texts(20))]
    rows.write_text("\n".join(["question,answer", *lines]), encoding="utf-8")
    (tmp_path / "units").mkdir()
    config = rs.StudyConfig(
        str(tmp_path / "model"),
        str(rows),
        None,
        arms=[rs.Arm("own", OneRankForEachText())],
        n_train=7,
        n_test=2,
        validation_share=0.3,
        max_steps=1,
        max_new_tokens=4,
        max_length=64,
        learning_rates=[1e-3],
        metrics=["token-f1"],
    )
    result = do_run(config, tmp_path, Run("final", "own", 0, 1e-3, 8.0))
    assert set(result.ranks.values()) == {5}
    assert result.selection_seconds > 0
