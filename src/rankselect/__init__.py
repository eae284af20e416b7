"""rankselect: which LoRA rank, layer by layer.

Measures the intrinsic dimension of each layer's hidden states on your own texts, turns it into a rank for every
module, and gives PEFT a config that it builds exactly. Names are loaded when they are first used, so that
`import rankselect` does not import torch. `__init__.pyi` lists the same names for type checkers.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from rankselect import errors
from rankselect._version import __version__

_HOMES = {
    "adapters.attach": ("attach_adapter",),
    "adapters.export": ("ExportReport", "export_adapter"),
    "adapters.spectra": ("AdapterSpectra", "adapter_spectra"),
    "adapters.merge": ("MergeReport", "merge_adapter"),
    "adapters.merge.logits": ("LogitDifference",),
    "adapters.record": ("TrainingRecord",),
    "calibration.evidence": ("Calibration", "Evidence"),
    "calibration.gradients": ("GradientSpectra",),
    "calibration.inputs": ("InputSpectra",),
    "calibration.probe": ("ProbeSpectra",),
    "calibration.token_count": ("TokenCount",),
    "calibration.weights": ("WeightSpectra",),
    "calibration.id_profile": ("IDProfile",),
    "calibration.measure": ("id_profile", "id_profiles"),
    "calibration.profiling": ("ProfileSettings",),
    "data.medical_qa": ("medical_qa",),
    "data.prompts": ("PromptTemplate", "QuestionAnswer"),
    "data.rows": ("load_rows", "load_texts"),
    "errors": ("RankSelectError", "RankSelectWarning"),
    "estimators._base": ("Estimator", "IDEstimate", "NeighborEstimator", "estimator"),
    "estimators.gride": ("Gride", "GrideScaling"),
    "estimators.mle": ("MLE",),
    "estimators.skdim": ("SkDim",),
    "estimators.twonn": ("TwoNN",),
    "memory": ("MemoryEstimate", "estimate_memory", "largest_fit", "savings"),
    "metrics._base": ("Metric", "MetricResult", "metric"),
    "metrics.bert_score": ("BertScore",),
    "metrics.harmonic": ("HarmonicMean", "HarmonicMeanOfMeans", "harmonic_mean"),
    "metrics.judge": ("JudgeResult", "LLMJudge"),
    "metrics.metric_input": ("MetricInput",),
    "metrics.paired": ("PairedDifference", "paired_difference"),
    "metrics.perplexity": ("Perplexity",),
    "metrics.questeval": ("QuestEval", "QuestEvalCloze", "QuestEvalResult"),
    "metrics.rouge": ("RougeL",),
    "metrics.squad": ("ExactMatch", "TokenF1", "token_f1"),
    "models.layers": ("layer_names",),
    "models.loading": ("empty_model", "load_model", "load_tokenizer"),
    "plan.planned_module": ("PlannedModule",),
    "plan.budget": ("Budget",),
    "plan.rank_plan": ("RankPlan",),
    "plan.scale": ("AlphaRatio", "AlphaRule", "FixedAlpha", "RankStabilized", "ScalesOf"),
    "strategies._base": ("RankStrategy", "strategy"),
    "strategies.by_size": ("BySize",),
    "strategies.capacity": ("Capacity",),
    "strategies.controls": ("ByType", "SameParameters", "Shuffled", "Tilted"),
    "strategies.fixed": ("Fixed",),
    "strategies.effective_rank": ("EffectiveRank",),
    "strategies.eva": ("EVA",),
    "strategies.fisher": ("Fisher",),
    "strategies.gelora": ("GeLoRA",),
    "strategies.gora": ("GoRA",),
    "strategies.gradient_spectrum": ("GradientSpectrum",),
    "strategies.intrinsic": ("IntrinsicMax", "IntrinsicMean", "IntrinsicMin", "PerLayerID"),
    "strategies.probe": ("Probe",),
    "study.analysis.results": ("StudyResults",),
    "study.analysis.verdict": ("Verdict",),
    "study.arm": ("Arm",),
    "study.config": ("StudyConfig",),
    "study.executors": ("Executor",),
    "study.judging": ("judge_answers",),
    "study.ray_executor": ("RayExecutor",),
    "study.report.write": ("write_report",),
    "study.study": ("Study",),
    "training.answer_losses": ("answer_losses",),
    "training.generation": ("GeneratedAnswer", "generate_answers"),
    "training.loss_change": ("LossChange",),
    "training.resize_report": ("ResizeReport",),
    "training.resizing": ("resize_adapter",),
    "training.small_phi": ("small_phi",),
    "training.trainer": ("RankSelectTrainer",),
}
# Names of 0.1 and where they are now. They go in 0.3.
_MOVED = {
    "AdapterError": "errors.AdapterError",
    "AdapterFolder": "adapters.adapter_folder.AdapterFolder",
    "AnswerCollator": "data.encoding.AnswerCollator",
    "Answers": "metrics.metric_input.MetricInput",
    "ArgumentError": "errors.ArgumentError",
    "ContractError": "errors.ContractError",
    "DataError": "errors.DataError",
    "EncodedRows": "data.encoding.EncodedRows",
    "EndpointError": "errors.EndpointError",
    "EvidenceError": "errors.EvidenceError",
    "FileFormatError": "errors.FileFormatError",
    "Measurement": "calibration.profiling.ProfileSettings",
    "MetricError": "errors.MetricError",
    "MissingExtraError": "errors.MissingExtraError",
    "ModelError": "errors.ModelError",
    "Neighbors": "neighbors.nearest.Neighbors",
    "NonFiniteLossError": "errors.NonFiniteLossError",
    "OutOfMemoryError": "errors.OutOfMemoryError",
    "PlanMismatchError": "errors.PlanMismatchError",
    "PointsError": "errors.PointsError",
    "SaveError": "errors.SaveError",
    "Target": "plan.targets.Target",
    "TargetError": "errors.TargetError",
    "TextsError": "errors.TextsError",
    "UnknownNameError": "errors.UnknownNameError",
    "encode_rows": "data.encoding.encode_rows",
    "fit": "memory.largest_fit",
    "find_targets": "plan.targets.find_targets",
    "nearest_neighbors": "neighbors.nearest.nearest_neighbors",
    "quantization_of": "models.quantized_layers.quantization_of",
    "read_adapter": "adapters.adapter_folder.read_adapter",
    "warn_of_overlap": "data.overlap.warn_of_overlap",
}
_HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", "errors", *sorted(_HOME_OF)]  # noqa: PLE0604  (strings, all of them)


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        return _moved(name)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def _moved(name: str) -> Any:
    home, _, new_name = f"{__name__}.{_MOVED[name]}".rpartition(".")
    warnings.warn(
        f"rankselect.{name} is {home}.{new_name} since 0.2; the old name goes in 0.3.", DeprecationWarning, stacklevel=3
    )
    return getattr(import_module(home), new_name)


def __dir__() -> list[str]:
    return __all__
