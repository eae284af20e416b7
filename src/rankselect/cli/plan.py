"""`rankselect plan`: choose a rank for every module, and write the plan in one of several formats."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from rankselect.cli import options
from rankselect.cli.console import show, simple_table, stderr
from rankselect.cli.evidence import RowsToMeasure, evidence_for_plan
from rankselect.data.sources import check_name
from rankselect.errors import ArgumentError
from rankselect.files import json_text, write_text
from rankselect.models.loading import empty_model
from rankselect.registry import check, create

if TYPE_CHECKING:
    from rankselect.plan.rank_plan import RankPlan

__all__ = ["Format", "as_text", "plan", "reader"]

Format = Literal["json", "peft", "axolotl"]


def as_text(plan: RankPlan, kind: Format, *, task_type: str | None = None, lora_dropout: float = 0.0) -> str:
    """Convert a plan to text in one of the formats.

    Args:
        plan: The plan.
        kind: ``"json"``: for `RankPlan.load`. ``"peft"``: PEFT's ``adapter_config.json``. ``"axolotl"``: the LoRA keys
            of an axolotl config, in YAML; its patterns need version 0.18.
        task_type: PEFT's task type, for ``"peft"``.
        lora_dropout: The dropout of the adapter, for ``"peft"`` and ``"axolotl"``.

    Raises:
        ArgumentError: If an alpha is not an integer and the format allows integers only.
    """
    if kind == "json":
        return json_text(plan.to_dict())
    return _peft(plan, task_type, lora_dropout) if kind == "peft" else _axolotl(plan, lora_dropout)


def reader(kind: Format, path: Path) -> str:
    """Return a phrase that says how to read the file."""
    if kind == "peft":
        named = path.name == "adapter_config.json"
        rename = "" if named else "name it adapter_config.json: "
        return f"{rename}LoraConfig.from_pretrained reads the folder it is in"
    return "RankPlan.load reads it" if kind == "json" else "copy its keys into your axolotl config"


def _peft(plan: RankPlan, task_type: str | None, lora_dropout: float) -> str:
    config = plan.to_lora_config(
        base_model_name_or_path=plan.model_name, task_type=task_type, lora_dropout=lora_dropout
    )
    with TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return (Path(folder) / "adapter_config.json").read_text(encoding="utf-8") + "\n"


def _axolotl(plan: RankPlan, lora_dropout: float) -> str:
    fraction = next((alpha for alpha in plan.alphas.values() if not alpha.is_integer()), None)
    if fraction is not None:
        raise ArgumentError(
            "integer alphas, since axolotl takes no others",
            f"an alpha of {fraction:g}",
            "Use an integer for --alpha-ratio, for example 8.",
        )
    config = plan.to_lora_config()
    keys: dict[str, Any] = {
        "adapter": "lora",
        "lora_r": config.r,
        "lora_alpha": config.lora_alpha,
        **({"lora_dropout": lora_dropout} if lora_dropout else {}),
        **({"peft_use_rslora": True} if plan.use_rslora else {}),
        "lora_target_modules": plan.target_modules if isinstance(plan.target_modules, str) else [*plan.target_modules],
        "lora_rank_pattern": config.rank_pattern,
        "lora_alpha_pattern": config.alpha_pattern,
    }
    return _yaml({name: value for name, value in keys.items() if value != {}})


def _yaml(keys: dict[str, Any]) -> str:
    """Write YAML in the given order, with regular expressions in single quotes, where backslashes are literal."""
    import yaml  # type: ignore[import-untyped]  # comes with transformers

    def quoted(dumper: Any, text: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isidentifier() else "'")

    dumper = type("Dumper", (yaml.SafeDumper,), {})  # a class of our own, since representers belong to the class
    dumper.add_representer(str, quoted)  # type: ignore[attr-defined]
    return str(yaml.dump(keys, Dumper=dumper, sort_keys=False, width=10_000))


_RANKS, _OUTPUT = "Ranks", "Output"
_MEASURING = (  # options that need --data
    *("question", "answer", "text", "template", "system", "max_samples", "batch_size"),
    *("dtype", "quantization", "device_map", "save_evidence"),
)


def plan(
    context: typer.Context,
    model: options.Model,
    *,
    strategy: Annotated[
        str,
        typer.Option(
            metavar="NAME[:ARGUMENT=VALUE,…]",
            help="The strategy that chooses the ranks; see rankselect strategies.",
            rich_help_panel=_RANKS,
        ),
    ],
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile",
            "--evidence",
            help="What the strategy needs, measured before: the output of rankselect profile, or of --save-evidence.",
            rich_help_panel=_RANKS,
        ),
    ] = None,
    target_modules: Annotated[
        str | None,
        typer.Option(
            help="Last parts of module names, such as q_proj,v_proj; all-linear; or a regular expression for full "
            "names. Default: PEFT's choice for the model family.",
            rich_help_panel=_RANKS,
        ),
    ] = None,
    budget: options.BudgetText = None,
    alpha: options.Alpha = None,
    alpha_ratio: Annotated[
        float, typer.Option(help="Alpha divided by rank, for every module.", rich_help_panel=_RANKS)
    ] = 8.0,
    min_rank: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="The lowest rank. With --budget, 0 lets modules go without an adapter.",
            rich_help_panel=_RANKS,
        ),
    ] = 1,
    max_rank: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The highest rank.", rich_help_panel=_RANKS)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help=f"Measure what the strategy needs on these questions and answers: {options.ROWS}",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    question: options.Question = None,
    answer: options.Answer = None,
    text: options.Text = None,
    template: options.Template = None,
    system: options.System = None,
    max_samples: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Use a random sample of N rows.", rich_help_panel=options.DATA),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Rows per batch.", rich_help_panel=options.DATA)
    ] = 8,
    dtype: options.DType = "auto",
    quantization: options.Quantization = "none",
    device_map: options.DeviceMap = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    save_evidence: Annotated[
        Path | None,
        typer.Option(help="A file for what was measured; replaced if it exists.", rich_help_panel=_OUTPUT),
    ] = None,
    no_progress: options.NoProgress = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file for the plan; replaced if it exists. Default: standard output.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    kind: Annotated[
        Format,
        typer.Option(
            "--format",
            help="json: for RankPlan.load. peft: adapter_config.json. axolotl: the LoRA keys of its YAML config.",
            rich_help_panel=_OUTPUT,
        ),
    ] = "json",
    lora_dropout: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="LoRA dropout, for peft and axolotl.", rich_help_panel=_OUTPUT)
    ] = 0.0,
) -> None:
    """Choose a LoRA rank for every target module of MODEL.

    Only the model's config is read, not its weights, unless a strategy's evidence is measured on --data. The plan is
    written to --out or to standard output, and a readable table to standard error.

    For example:

        rankselect plan Qwen/Qwen3-0.6B --strategy per-layer-id --profile profile.json --out plan.json

        rankselect plan Qwen/Qwen3-0.6B --strategy gora --data train.jsonl --budget rank:8 --out plan.json
    """
    check("strategy", strategy)
    options.check_positive(alpha_ratio=alpha_ratio)
    options.check_there(profile)
    for path in (out, save_evidence):
        if path is not None:
            options.check_folder(path)
    rows = None
    if data is None:
        _refuse_without_data(context)
    else:
        check_name(data)
        rows = RowsToMeasure(
            data,
            options.columns(question, answer, text),
            template,
            system,
            max_samples=max_samples,
            batch_size=batch_size,
            loading={
                "dtype": dtype,
                "quantization": quantization,
                "device_map": device_map,
                "trust_remote_code": trust_remote_code,
            },
            show_progress=not no_progress,
        )
    chosen, targets = create("strategy", strategy), options.split_target_modules(target_modules)
    evidence = evidence_for_plan(
        chosen, strategy, model, file=profile, rows=rows, save=save_evidence, target_modules=targets
    )
    from rankselect.training.adapt import task_type_of

    empty = empty_model(model, trust_remote_code=trust_remote_code)
    planned = chosen.plan(
        empty,
        evidence,
        target_modules=targets,
        budget=budget,
        alpha=alpha,
        alpha_ratio=alpha_ratio,
        min_rank=min_rank,
        max_rank=max_rank,
    )
    text = as_text(planned, kind, task_type=task_type_of(empty), lora_dropout=lora_dropout)
    _report(planned)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        show(stderr(), f"Wrote {out} ({reader(kind, out)})")


def _refuse_without_data(context: typer.Context) -> None:
    """Raise an error for options that say how to measure, where nothing is measured."""
    names = options.given_options(context, _MEASURING)
    if names:
        raise ArgumentError("--data, the rows to measure on", f"{names} without it", "Add --data, or leave them out.")


def _report(planned: RankPlan) -> None:
    """Print the table, without the column of modules if it is the same in every row."""
    from rankselect.plan.table import HEADER, rows

    console = stderr()
    cells = rows(planned.modules)
    same = len({row[1] for row in cells}) == 1
    shown = [column for column in range(len(HEADER)) if column != 1 or not same]
    table = simple_table(*(HEADER[column] for column in shown), numbers=3)
    for row in cells:
        table.add_row(*(Text(row[column]) for column in shown))
    console.print(table)
    if same:
        show(console, f"modules in every layer: {cells[0][1]}", wrap=True)
    show(console, planned.summary, wrap=True)
