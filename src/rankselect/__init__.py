"""rankselect: which LoRA rank, layer by layer.

Measures the intrinsic dimension of each layer's hidden states on your own texts, turns it into a rank for every
module, and hands PEFT a config that it builds exactly. Names are loaded when they are first used, so that
`import rankselect` does not import torch. The same names stand in `__init__.pyi` for type checkers.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rankselect import errors
from rankselect._version import __version__

_HOMES = {
    "adapters.adapter_folder": ("AdapterFolder", "read_adapter"),
    "adapters.attach": ("attach_adapter",),
    "adapters.export": ("ExportReport", "export_adapter"),
    "memory": ("MemoryEstimate", "fit"),
    "adapters.merge": ("MergeReport", "merge_adapter"),
    "adapters.merge.logits": ("LogitDifference",),
    "calibration.evidence": ("Calibration", "Evidence"),
    "calibration.id_profile": ("IDProfile",),
    "calibration.measure": ("id_profile",),
    "calibration.profiling": ("ProfileSettings",),
    "errors": errors.__all__,
    "estimators._base": ("Estimator", "IDEstimate", "NeighborEstimator"),
    "estimators.gride": ("Gride", "GrideScaling"),
    "estimators.mle": ("MLE",),
    "estimators.skdim": ("SkDim",),
    "estimators.twonn": ("TwoNN",),
    "metrics._base": ("Metric", "MetricResult"),
    "metrics.bert_score": ("BertScore",),
    "metrics.exact_match": ("ExactMatch",),
    "metrics.harmonic": ("HarmonicMean", "HarmonicMeanOfMeans", "harmonic_mean"),
    "metrics.judge": ("JudgeResult", "LLMJudge"),
    "metrics.metric_input": ("MetricInput",),
    "metrics.paired": ("PairedDifference", "paired_difference"),
    "metrics.perplexity": ("Perplexity",),
    "metrics.questeval": ("QuestEval", "QuestEvalCloze", "QuestEvalResult"),
    "metrics.rouge": ("RougeL",),
    "metrics.token_f1": ("TokenF1", "token_f1"),
    "neighbors.nearest": ("Neighbors", "nearest_neighbors"),
    "models.layers": ("layer_names",),
    "plan.planned_module": ("PlannedModule",),
    "plan.rank_plan": ("RankPlan",),
    "plan.targets": ("Target", "find_targets"),
    "strategies._base": ("RankStrategy",),
    "strategies.controls": ("SameParameters", "Shuffled", "Tilted"),
    "strategies.fixed": ("Fixed",),
    "study.arm": ("Arm",),
    "study.config": ("StudyConfig",),
    "study.executors": ("Executor",),
    "study.judging": ("judge_answers",),
    "study.ray_executor": ("RayExecutor",),
    "study.report.write": ("write_report",),
    "study.analysis.results": ("StudyResults",),
    "study.study": ("Study",),
    "study.analysis.verdict": ("Verdict",),
    "strategies.gelora": ("GeLoRA",),
    "strategies.intrinsic": ("IntrinsicMax", "IntrinsicMean", "IntrinsicMin", "PerLayerID"),
    "training.answer_losses": ("answer_losses",),
    "data.encoding": ("AnswerCollator", "EncodedRows", "encode_rows"),
    "training.generation": ("GeneratedAnswer", "generate_answers"),
    "models.loading": ("load_model", "load_tokenizer", "quantization_of"),
    "data.prompts": ("PromptTemplate",),
    "training.record": ("TrainingRecord",),
    "data.question_answer": ("QuestionAnswer",),
    "data.rows": ("load_rows", "warn_of_overlap"),
    "training.trainer": ("RankSelectTrainer",),
}
_HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604  (strings, all of them)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
