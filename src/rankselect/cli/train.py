"""`rankselect train`: train an adapter on question-answer rows."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import rankselect as rs
from rankselect.cli import options
from rankselect.cli.console import show, show_progress, simple_table, stderr
from rankselect.data.prompts import CHAT, template_named
from rankselect.data.rows import digest_of
from rankselect.data.sources import check_name
from rankselect.errors import ArgumentError
from rankselect.files import json_text
from rankselect.registry import check, create

if TYPE_CHECKING:
    from rankselect.adapters.record import TrainingRecord

__all__ = ["train"]

_RANKS, _TRAINING = "Ranks", "Training"
_NOT_SETTINGS = {"out", "resume", "as_json", "no_progress"}
_DECIDED_BY_PLAN = {"strategy", "target_modules", "alpha_ratio", "alpha", "budget", "max_rank"}


def train(
    context: typer.Context,
    model: options.Model,
    *,
    data: options.RowsData,
    out: Annotated[
        Path,
        typer.Option(help="A new folder; its subfolder adapter gets the trained adapter.", rich_help_panel="Output"),
    ],
    eval_data: Annotated[
        str | None, typer.Option(help="Rows to compute the loss on after training.", rich_help_panel=options.DATA)
    ] = None,
    question: options.Question = None,
    answer: options.Answer = None,
    text: options.Text = None,
    skip_faulty_rows: options.SkipFaultyRows = False,
    template: options.Template = None,
    system: options.System = None,
    max_length: options.MaxLength = None,
    loss_on: Annotated[
        Literal["answer", "all"],
        typer.Option(
            help="Compute the loss on the answers only, or on the questions too.", rich_help_panel=options.DATA
        ),
    ] = "answer",
    strategy: Annotated[
        str,
        typer.Option(
            metavar="NAME[:ARGUMENT=VALUE,…]",
            help="The strategy that chooses the ranks; see rankselect strategies.",
            rich_help_panel=_RANKS,
        ),
    ] = "per-layer-id",
    plan: Annotated[
        Path | None,
        typer.Option(help="The output of rankselect plan, instead of a strategy.", rich_help_panel=_RANKS),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="The output of rankselect profile. Default: measured on the training rows.", rich_help_panel=_RANKS
        ),
    ] = None,
    target_modules: Annotated[str | None, typer.Option(help="As for rankselect plan.", rich_help_panel=_RANKS)] = None,
    budget: options.BudgetText = None,
    alpha: options.Alpha = None,
    alpha_ratio: Annotated[
        float, typer.Option(help="Alpha divided by rank, for every module.", rich_help_panel=_RANKS)
    ] = 8.0,
    max_rank: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The highest rank.", rich_help_panel=_RANKS)
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the training rows.", rich_help_panel=_TRAINING)] = 3.0,
    max_steps: options.MaxSteps = None,
    learning_rate: Annotated[
        float, typer.Option(help="The initial learning rate; it decays linearly to 0.", rich_help_panel=_TRAINING)
    ] = 2e-4,
    batch_size: options.BatchSize = 8,
    accumulation: options.Accumulation = 1,
    gradient_checkpointing: options.GradientCheckpointing = False,
    dropout: options.Dropout = 0.0,
    save_steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps between checkpoints.", rich_help_panel=_TRAINING)
    ] = 100,
    profile_after: options.ProfileAfter = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the last checkpoint in --out.", rich_help_panel=_TRAINING)
    ] = False,
    seed: options.Seed = 0,
    dtype: options.DType = "auto",
    quantization: options.Quantization = "none",
    device_map: options.DeviceMap = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Fine-tune MODEL on questions and answers with the ranks of a strategy or a plan.

    The ranks are chosen first: a strategy that needs intrinsic dimensions measures them on the training rows. The
    adapter is saved with its plan, profile, and a record of what training cost. Ctrl-C saves a checkpoint, from which
    the same command with --resume continues.

    For example:

        rankselect train Qwen/Qwen3-0.6B --data train.jsonl --strategy per-layer-id --quantization nf4 --out run
    """
    if template != CHAT:
        template_named(template, None, system)
    options.check_positive(learning_rate=learning_rate, epochs=epochs, alpha_ratio=alpha_ratio)
    if plan is None:
        check("strategy", strategy)
    else:
        _refuse_what_a_plan_decides(context)
    for name in filter(None, (data, eval_data)):
        check_name(name)
    options.check_there(plan, profile)
    from transformers import TrainingArguments

    from rankselect.cli.training_run import TrainingRun
    from rankselect.models._transformers import checkpointing
    from rankselect.models.processes import Processes

    processes = Processes.current()
    progress = sys.stderr.isatty() and not no_progress and processes.is_first
    show_progress(enabled=progress)
    ignored = _NOT_SETTINGS if plan is None else _NOT_SETTINGS | _DECIDED_BY_PLAN
    settings = {name: value for name, value in context.params.items() if name not in ignored}
    tokenizer = rs.load_tokenizer(model, trust_remote_code=trust_remote_code)
    prompts = template_named(template, tokenizer, system)
    with processes.warning_once():
        how: Any = {"template": prompts, "skip_faulty": skip_faulty_rows, "progress": progress}
        how |= options.columns(question, answer, text)
        rows = rs.load_rows(data, **how)
        evaluation = rs.load_rows(eval_data, **how) if eval_data else None
    settings |= {"template": template or options.DEFAULT_TEMPLATE, "rows": digest_of(rows)}
    run = TrainingRun.open(out, json.loads(json.dumps(settings, default=str)), resume=resume, processes=processes)
    chosen: dict[str, Any] = run.chosen or _chosen(
        strategy=strategy,
        plan=plan,
        profile=profile,
        plan_arguments={
            "target_modules": options.split_target_modules(target_modules),
            "budget": budget,
            "alpha": alpha,
            "alpha_ratio": alpha_ratio,
            "max_rank": max_rank,
        },
    )
    with processes.warning_once():
        loaded = rs.load_model(
            model,
            dtype=dtype,
            quantization=quantization,
            device_map=device_map,
            trust_remote_code=trust_remote_code,
        )
    trainer = rs.RankSelectTrainer(
        loaded,
        TrainingArguments(
            str(run.checkpoints),
            num_train_epochs=epochs,
            max_steps=max_steps or -1,
            learning_rate=learning_rate,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            **checkpointing(on=gradient_checkpointing),
            save_steps=save_steps,
            save_total_limit=2,
            logging_steps=1,
            prediction_loss_only=True,
            seed=seed,
            use_cpu=processes.count > 1 and processes.device.type == "cpu",
            report_to="none",
            disable_tqdm=not progress,
        ),
        **chosen,
        train_dataset=rows,
        eval_dataset=evaluation,
        processing_class=tokenizer,
        template=prompts,
        max_length=max_length,
        loss_on=loss_on,
        lora_arguments={"lora_dropout": dropout},
        profile_after=profile_after,
    )
    run.keep_choice(trainer)
    if not run.train(trainer):
        command = shlex.join(["rankselect", *sys.argv[1:], *([] if resume else ["--resume"])])
        show(stderr(), f"Stopped at step {trainer.state.global_step} with a checkpoint. Continue with: {command}")
        raise typer.Exit(130)
    if evaluation is not None:
        trainer.evaluate()
    trainer.save_adapter(run.adapter)
    if processes.is_first:
        _report(trainer.record, run.adapter, as_json=as_json)


def _refuse_what_a_plan_decides(context: typer.Context) -> None:
    """Raise an error if --plan is given together with an option that it would make meaningless.

    Raises:
        ArgumentError: If there is such an option.
    """
    names = options.given_options(context, sorted(_DECIDED_BY_PLAN))
    if names:
        raise ArgumentError(
            "--plan without options that the plan decides", names, "Leave them out, or leave out --plan."
        )


def _chosen(
    *,
    strategy: str,
    plan: Path | None,
    profile: Path | None,
    plan_arguments: dict[str, Any],
) -> dict[str, Any]:
    """Return the trainer's arguments that determine the ranks."""
    evidence = rs.IDProfile.load(profile) if profile else None
    if plan is not None:
        return {"plan": rs.RankPlan.load(plan), "evidence": evidence}
    return {"strategy": create("strategy", strategy), "evidence": evidence, "plan_arguments": plan_arguments}


def _report(record: TrainingRecord, adapter: Path, *, as_json: bool) -> None:
    """Print a table about the run; with `as_json`, also the complete record as JSON."""
    console = stderr()
    table = simple_table("training", "", numbers=1)
    table.add_row("strategy", record.strategy)
    table.add_row("trainable parameters", f"{record.trainable_parameters:,}")
    table.add_row("steps", f"{record.first_step} to {record.steps}" if record.first_step else str(record.steps))
    for name, curve in (("training loss", record.losses), ("evaluation loss", record.evaluation_losses)):
        if curve:
            ends = sorted({curve[0], curve[-1]})
            table.add_row(name, " to ".join(f"{loss:.4f}" for _, loss in ends))
    table.add_row("seconds", f"{record.seconds:.1f}, and {record.selection_seconds:.1f} to choose the ranks")
    table.add_row("tokens per second", f"{record.tokens_per_second:,.0f}")
    table.add_row("peak memory", f"{record.peak_memory_bytes / 2**20:,.0f} MiB")
    console.print(table)
    show(
        console,
        f"Wrote {adapter}. Next: {shlex.join(['rankselect', 'evaluate', record.base_model or 'MODEL'])} "
        f"--adapter {shlex.quote(str(adapter))} --data …",
    )
    if as_json:
        typer.echo(json_text({"adapter": str(adapter), **record.to_dict()}).rstrip())
