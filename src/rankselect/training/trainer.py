"""A `transformers.Trainer` that chooses the ranks, builds the adapter, and records what training it cost."""

from __future__ import annotations

import os
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, final

from transformers import PreTrainedTokenizerBase, PrinterCallback, ProgressCallback, TrainingArguments

from rankselect.adapters.record import TrainingRecord
from rankselect.calibration.evidence import Calibration
from rankselect.calibration.id_profile import IDProfile
from rankselect.data.datasets import training_data
from rankselect.data.prompt_tokens import row_length
from rankselect.data.prompts import CHAT, template_of
from rankselect.errors import ArgumentError, described
from rankselect.files import new_folder, package_versions
from rankselect.models._transformers import align_special_tokens, recomputes_activations
from rankselect.models.layers import require_model, unwrapped
from rankselect.models.loading import load_model
from rankselect.models.names import model_name
from rankselect.models.processes import Processes
from rankselect.models.quantized_layers import quantization_of
from rankselect.models.suitability import tokenizer_of
from rankselect.training.adapt import adapt, strategy_or_plan
from rankselect.training.callbacks import GradientCheck, Meter, PlainProgress, StepProgress
from rankselect.training.out_of_memory import out_of_memory_error
from rankselect.training.resilience import ResilientTrainer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from transformers import PreTrainedModel

    from rankselect.calibration.evidence import Evidence
    from rankselect.data.prompts import PromptTemplate
    from rankselect.errors import OutOfMemoryError
    from rankselect.plan.rank_plan import RankPlan
    from rankselect.strategies._base import RankStrategy

__all__ = ["RankSelectTrainer"]

_VERSIONS_OF = ("rankselect", "torch", "transformers", "peft", "accelerate")


@final
class RankSelectTrainer(ResilientTrainer):
    """Chooses the ranks, builds and verifies the adapter, trains it, and records what it cost.

    It works like `transformers.Trainer`, except that it shows a progress bar instead of printing dictionaries, or logs
    plain lines with step, loss and time left if `args.disable_tqdm` is set. It adds:

    * Ranks: a strategy measures its evidence before training, or you pass a plan. The adapter that PEFT builds is
      verified against the plan.
    * Question-answer rows are encoded, with the loss on the answers; tokenized datasets are used as they are.
    * When memory runs out, the micro-batch is halved and training continues with the same effective batch: the
      gradients add up to those of the full batch. When a single row does not fit, the error lists what would save how
      much memory. (This works in a single process; under a distributed launcher the error is raised at once, because
      the processes must stay in step.)
    * Training stops when the loss or the weights are not finite; the last good checkpoint is kept.
    * Under ``torchrun`` or ``accelerate launch`` the processes share the profiling, train the same plan, and the first
      one writes. Every process must make the same calls.
    * `train(resume_from_checkpoint=True)` resumes from the newest complete checkpoint, and skips one that a kill left
      incomplete.

    Args:
        model: A model without an adapter, as `rankselect.load_model` or `from_pretrained` returns it. The adapter is
            added in place; a quantised model is prepared for training.
        args: `transformers.TrainingArguments`.
        strategy: The strategy that chooses the ranks, or its name with arguments (``"fixed:rank=8"``). Pass this or
            `plan`.
        plan: Ranks that were chosen before.
        train_dataset: Rows, or anything that `load_rows` reads (a file, a data set, a list of mappings in any of its
            forms); or any dataset that `transformers.Trainer` takes.
        eval_dataset: The same for evaluation, or several by name. A warning says how many of its questions are also in
            the training rows.
        processing_class: The tokenizer, or a processor with one; required for rows.
        evidence: The evidence for the strategy, or a `Calibration` to measure it from. By default it is measured on the
            training rows.
        template: The template that turns a row into a text; `PromptTemplate()` by default.
        max_length: The maximum number of tokens in a row; longer rows are cut and counted. Defaults to 512 or the
            model's maximum, whichever is less.
        loss_on: ``"answer"``, or ``"all"`` to include the questions.
        plan_arguments: Arguments of `RankStrategy.plan`: ``target_modules``, ``alpha_ratio``, ….
        lora_arguments: Arguments of `peft.LoraConfig`: ``lora_dropout``, ``use_rslora``, ….
        profile_after: Measure the intrinsic dimensions again after training; the attribute `profile_after` holds them.
        **trainer_arguments: Further arguments of `transformers.Trainer`.

    Attributes:
        plan: The ranks.
        profile: The profile that the ranks are based on, or None.
        profile_after: The profile after training, or None.
        micro_batch_size: Rows per forward pass after memory ran out; None before.

    Raises:
        ArgumentError: If not exactly one of `strategy` and `plan` is given, an argument has the wrong type (a name or a
            class instead of an object), rows are given without a tokenizer, or a launcher started several processes
            but `args` are for a single one.
        UnknownNameError: If no strategy of this name is installed.
        ModelError: If `model` is not a model, or already has an adapter; or if there are rows and it is not causal, or
            has no embedding for one of their tokens.
        EvidenceError: If the strategy needs evidence and there is nothing to measure it from.
        DataError: If a dataset contains neither rows nor inputs that the model takes.
        PlanMismatchError: If the adapter that PEFT built differs from the plan.

    Example:
        >>> import tempfile
        >>> import rankselect as rs
        >>> from transformers import PrinterCallback, ProgressCallback, TrainingArguments
        >>> from rankselect.testing import tiny_model, tiny_tokenizer
        >>> rows = [rs.QuestionAnswer("What is a fever?", "A fever is heat.")] * 8
        >>> arguments = TrainingArguments(tempfile.mkdtemp(), max_steps=2, report_to="none", disable_tqdm=True)
        >>> trainer = rs.RankSelectTrainer(
        ...     tiny_model(), arguments, strategy=rs.Fixed(4), train_dataset=rows, processing_class=tiny_tokenizer()
        ... )
        >>> _ = trainer.train()
        >>> trainer.record.steps, trainer.record.trainable_parameters == trainer.plan.trainable_parameters
        (2, True)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments | None = None,
        *,
        strategy: RankStrategy | str | None = None,
        plan: RankPlan | None = None,
        train_dataset: Any,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        evidence: Evidence | Calibration | None = None,
        template: PromptTemplate | None = None,
        max_length: int | None = None,
        loss_on: Literal["answer", "all"] = "answer",
        plan_arguments: Mapping[str, Any] | None = None,
        lora_arguments: Mapping[str, Any] | None = None,
        profile_after: bool = False,
        **trainer_arguments: Any,
    ) -> None:
        args = TrainingArguments("trainer_output") if args is None else args
        _check_arguments(model, args, processing_class, template)
        processes = Processes.current()
        _require_in_step(args, processes)
        template, tokenizer = template_of(template), tokenizer_of(processing_class)
        max_length = row_length(model, tokenizer, max_length)
        with processes.warning_once():
            data = training_data(
                train_dataset,
                eval_dataset,
                tokenizer,
                model=model,
                template=template,
                max_length=max_length,
                loss_on=loss_on,
                collated=trainer_arguments.get("data_collator") is not None,
            )
        self.calibration = evidence if isinstance(evidence, Calibration) else None
        if self.calibration is None and data.rows:
            self.calibration = Calibration(
                model,
                tokenizer,
                data.rows,
                template=template,
                max_length=max_length,
                seed=args.seed,
                progress=not args.disable_tqdm,
            )
        if profile_after and self.calibration is None:
            raise ArgumentError(
                "texts to profile after training",
                "neither question-answer rows nor a Calibration",
                "Pass evidence=Calibration(model, tokenizer, texts), or train on question-answer rows.",
            )
        self._profiles_after = profile_after
        evidence = self.calibration if evidence is None else evidence
        with processes.warning_once():
            choice = strategy_or_plan(model, strategy, plan, evidence, plan_arguments or {}, profiled=profile_after)
        choice = processes.from_first(choice)
        self.plan, self.profile, self._selection_seconds = choice.plan, choice.profile, choice.seconds
        self.profile_after: IDProfile | None = None
        self.quantization = quantization_of(model)
        model = load_model(model, trainable=True, gradient_checkpointing=recomputes_activations(args))
        if isinstance(tokenizer, PreTrainedTokenizerBase):
            align_special_tokens(model, tokenizer)
        trainer_arguments.setdefault("data_collator", data.collator)
        super().__init__(
            adapt(model, self.plan, seed=args.seed, **(lora_arguments or {})),
            _pinning_for_accelerators(args),
            train_dataset=data.train,
            eval_dataset=data.evaluation,
            processing_class=processing_class,
            **trainer_arguments,
        )
        self.max_length = max_length
        self._prompt = _prompt_settings(template, max_length, loss_on, data.digest)
        self._other_processes = (0, 0)  # their tokens and peak memory, known after training
        self._meter = Meter(on_gpu=self.args.device.type == "cuda")
        self.add_callback(self._meter)
        self.add_callback(GradientCheck())
        for printing in (ProgressCallback, PrinterCallback):
            self.remove_callback(printing)
        self.add_callback(PlainProgress() if args.disable_tqdm else StepProgress())

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as `transformers.Trainer.train` does; then measure the profile again if `profile_after` was set."""
        self._other_processes = (0, 0)
        output = super().train(*args, **kwargs)
        measured = self._processes.gather((self._meter.tokens, self._meter.peak_memory_bytes))
        del measured[self._processes.rank]
        self._other_processes = (sum(tokens for tokens, _ in measured), sum(peak for _, peak in measured))
        if self._profiles_after and self.calibration is not None:
            self.profile_after = IDProfile.measure(replace(self.calibration, model=self.model))
        return output

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Run one forward and backward pass, and count its tokens."""
        self._meter.count(inputs)
        return super().training_step(model, inputs, num_items_in_batch)

    def _out_of_memory(self, inputs: Mapping[str, Any], n_rows_at_once: int) -> OutOfMemoryError:
        return out_of_memory_error(
            unwrapped(self.model),
            self.plan,
            batch_size=n_rows_at_once,
            length=inputs["input_ids"].shape[-1],
            gradient_checkpointing=recomputes_activations(self.args),
            accumulate=self.args.gradient_accumulation_steps > 1,
            autocast="bfloat16" if self.args.bf16 else None,
            device=self.args.device.type,
        )

    @property
    def record(self) -> TrainingRecord:
        """The settings and the cost of the run so far.

        After training, tokens and peak memory are summed over all processes; before, they are those of this process.
        """
        base = unwrapped(self.model)
        history = self.state.log_history
        return TrainingRecord(
            strategy=self.plan.strategy,
            base_model=model_name(base),
            quantization=self.quantization,
            dtype=str(base.dtype).removeprefix("torch."),
            device=self.args.device.type,
            trainable_parameters=self.model.get_nb_trainable_parameters()[0],
            base_parameters=self.plan.base_parameters,
            steps=self.state.global_step,
            first_step=self._meter.first_step,
            seconds=self._meter.seconds,
            selection_seconds=self._selection_seconds,
            tokens=self._meter.tokens + self._other_processes[0],
            peak_memory_bytes=self._meter.peak_memory_bytes + self._other_processes[1],
            micro_batch_size=self.micro_batch_size or self.args.per_device_train_batch_size,
            losses=_curve(history, "loss"),
            evaluation_losses=_curve(history, "eval_loss"),
            seed=self.args.seed,
            versions=package_versions(*_VERSIONS_OF),
            **self._prompt,
        )

    def save_adapter(self, path: str | os.PathLike[str]) -> None:
        """Save the adapter with its tokenizer, plan, record and profiles, completely or not at all.

        Under a launcher every process must call it; the first one writes, and the others wait for it.

        `peft.PeftModel.from_pretrained` reads the folder. Besides the adapter it contains ``plan.json``,
        ``rankselect.json`` (the record), and ``profile.json`` and ``profile_after.json`` if there are any.

        Args:
            path: A folder that does not exist or is empty.

        Raises:
            SaveError: If `path` exists and is not an empty folder, or cannot be written.
        """
        self._processes.together(lambda: self._write_adapter(path) if self._processes.is_first else None)

    def _write_adapter(self, path: str | os.PathLike[str]) -> None:
        with new_folder(path) as folder:
            self.model.save_pretrained(folder)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
            self.plan.save(folder / "plan.json")
            self.record.save(folder)
            for name, profile in (("profile", self.profile), ("profile_after", self.profile_after)):
                if profile is not None:
                    profile.save(folder / f"{name}.json")


def _check_arguments(model: Any, args: Any, tokenizer: Any, template: Any) -> None:
    """Raise an error for names and classes that are passed instead of objects."""
    require_model(model)
    if not isinstance(args, TrainingArguments):
        raise ArgumentError("TrainingArguments", described(args), "For example TrainingArguments('out').")
    if isinstance(tokenizer, (str, os.PathLike, type, dict)):  # processors of images are no tokenizers either
        remedy = "Load it first, for example with rankselect.load_tokenizer."
        raise ArgumentError("a tokenizer as processing_class", described(tokenizer), remedy)
    template_of(template)


def _prompt_settings(
    template: PromptTemplate, max_length: int, loss_on: str, rows_digest: str | None
) -> dict[str, Any]:
    """What the record says of the prompts; nothing if there are no rows."""
    if rows_digest is None:
        return {}
    return {
        "template": CHAT if template.is_chat else template.template,
        "stop": template.stop,
        "system": getattr(template, "system", None),
        "max_length": max_length,
        "loss_on": loss_on,
        "rows_digest": rows_digest,
    }


def _require_in_step(args: TrainingArguments, processes: Processes) -> None:
    """Raise an error if the launched processes would train separately instead of together."""
    if args.world_size != processes.count:
        raise ArgumentError(
            f"training arguments for {processes.count} processes",
            f"arguments for {args.world_size}",
            "On CPUs, add use_cpu=True to the arguments.",
        )


def _pinning_for_accelerators(args: TrainingArguments) -> TrainingArguments:
    """Turn memory pinning off on a CPU: it speeds up copies to accelerators, and without one torch warns each epoch."""
    if args.device.type == "cpu":
        args = copy(args)
        args.dataloader_pin_memory = False
    return args


def _curve(history: list[dict[str, float]], name: str) -> tuple[tuple[int, float], ...]:
    return tuple((int(entry["step"]), float(entry[name])) for entry in history if name in entry)
