"""A first plan, without a download: measure a small model layer by layer and turn the profile into LoRA ranks.

Run it with ``python examples/first_plan.py``. It trains a small Phi model on questions and answers that come with
the library, profiles it, compares what the strategies make of the profile, and builds the adapter of one of them.
It takes one to two minutes on two CPU cores and leaves ``profile.png``, ``profile.json`` and ``plan.json`` behind.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

import rankselect as rs
from rankselect.embedded.medical_qa import medical_qa
from rankselect.embedded.small_phi import DEFAULT_STEPS, small_phi

if TYPE_CHECKING:
    from transformers import PreTrainedModel

console = Console()


def main() -> None:
    """Train, profile, compare, build; the files go to the folder that --out names."""
    parser = argparse.ArgumentParser(description="A first plan, without a download.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="training steps of the small model")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    show_only_our_news()

    console.rule("1. A small model")
    texts = [pair.text for pair in medical_qa()]
    model, tokenizer = small_phi(steps=arguments.steps)
    print(f"{model.num_parameters():,} parameters; its texts: {len(texts):,} medical questions with answers")

    console.rule("2. Its profile: the intrinsic dimension (ID) of each layer on these texts")
    profile = rs.id_profile(model, tokenizer, texts)
    print(profile)
    profile.save(out / "profile.json")
    profile.plot().figure.savefig(out / "profile.png", dpi=150)  # type: ignore[union-attr]

    console.rule("3. What each strategy makes of it: the rank in each layer")
    plans = plans_of_all(model, profile)
    console.print(side_by_side(plans, profile.layers))
    print(ABOUT_THE_STRATEGIES)

    console.rule("4. The adapter of one plan, built by PEFT and checked")
    plan = plans["PerLayer\nID"]
    build(model, plan)
    plan.save(out / "plan.json")
    print(plan.summary)
    print(CLOSING.format(out=out))


def plans_of_all(model: PreTrainedModel, profile: rs.IDProfile) -> dict[str, rs.RankPlan]:
    """The plan of every strategy, under its name; a strategy that needs no profile ignores it."""
    strategies: dict[str, rs.RankStrategy] = {
        "Fixed(8)": rs.Fixed(8),
        "Intrinsic\nMin": rs.IntrinsicMin(),
        "Intrinsic\nMean": rs.IntrinsicMean(),
        "Intrinsic\nMax": rs.IntrinsicMax(),
        "PerLayer\nID": rs.PerLayerID(),
        "GeLoRA": rs.GeLoRA(),
    }
    return {name: strategy.plan(model, profile) for name, strategy in strategies.items()}


def side_by_side(plans: dict[str, rs.RankPlan], layers: tuple[str, ...]) -> Table:
    """One row per layer, one column per plan; below, what each plan trains."""
    table = Table("layer", *plans, box=box.SIMPLE, collapse_padding=True)
    for column in table.columns[1:]:
        column.justify = "right"
    for layer in layers:
        table.add_row(layer, *(rank_in(plan, layer) for plan in plans.values()))
    table.add_section()
    table.add_row("trainable", *(f"{plan.trainable_parameters:,}" for plan in plans.values()))
    table.add_row("of all", *(f"{plan.trainable_percentage:.2f} %" for plan in plans.values()))
    return table


def rank_in(plan: rs.RankPlan, layer: str) -> str:
    """The rank of a layer's modules: one number, or the smallest and the largest."""
    ranks = sorted({module.rank for module in plan.modules if module.target.layer == layer})
    return " to ".join(str(rank) for rank in dict.fromkeys((ranks[0], ranks[-1])))


def build(model: PreTrainedModel, plan: rs.RankPlan) -> None:
    """Let PEFT build the adapter, and make sure that it is what the plan says."""
    from peft import get_peft_model  # noqa: PLC0415  (slow to import)

    peft_model = get_peft_model(model, plan.to_lora_config(task_type="CAUSAL_LM"))
    plan.verify(peft_model)


def show_only_our_news() -> None:
    """Show what rankselect logs, and keep notices of other packages out of the picture."""
    logging.basicConfig(format="%(message)s", level=logging.ERROR)
    logging.getLogger("rankselect").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=FutureWarning)


ABOUT_THE_STRATEGIES = """\
Fixed(8) looks at nothing. IntrinsicMin, -Mean and -Max give all layers one
number of the profile, PerLayerID gives each layer its own, and GeLoRA counts
by how much a layer raises the ID, plus one: where the ID falls, rank 1 is left."""

CLOSING = """\
PEFT built exactly this plan: every module, rank and alpha was checked.

Made:   profile.png, profile.json and plan.json in {out}
To use: rs.RankPlan.load("{out}/plan.json").to_lora_config()
        is a LoraConfig for your own trainer.

What this shows: how many dimensions each layer uses on these texts, how sure
that is, and which ranks follow from it.

What it does not show: that one of these plans trains better than another. No
profile can show that. The plans differ in how much they train; where the
intervals of the layers overlap, a rank for each layer may be no better than
one for all. To find out, train them on your task: several seeds, the learning
rate tuned for each plan, and beside them a uniform rank with as many
parameters."""


if __name__ == "__main__":
    main()
