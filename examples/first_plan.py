"""A first plan, without a download: measure a small model layer by layer and turn the profile into LoRA ranks.

Run it with ``python examples/first_plan.py``. It trains a small Phi model on questions and answers that come with
the library, profiles it, compares what the strategies make of the profile, and builds the adapter of one of them.
It takes one to two minutes on two CPU cores and leaves ``profile.png``, ``profile.json`` and ``plan.json`` behind.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from peft import get_peft_model
from rich.console import Console
from rich.table import Table

import rankselect as rs
from rankselect.embedded import medical_qa, small_phi
from rankselect.embedded.small_phi import DEFAULT_STEPS

STRATEGIES = (rs.Fixed(8), rs.IntrinsicMin(), rs.IntrinsicMean(), rs.IntrinsicMax(), rs.PerLayerID(), rs.GeLoRA())


def main() -> None:
    """Train, profile, compare, build; the files go to the folder that --out names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="training steps of the small model")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    console = Console()

    console.rule("1. A small model")
    texts = [pair.text for pair in medical_qa()]
    model, tokenizer = small_phi(steps=arguments.steps)
    console.print(f"{model.num_parameters():,} parameters, trained on {len(texts):,} short medical texts.")

    console.rule("2. Its profile: the intrinsic dimension (ID) of each layer on these texts")
    profile = rs.id_profile(model, tokenizer, texts)
    print(profile)
    profile.save(out / "profile.json")
    profile.plot().figure.savefig(out / "profile.png")

    console.rule("3. What each strategy makes of it: the rank per layer")
    plans = [strategy.plan(model, profile) for strategy in STRATEGIES]
    console.print(side_by_side(plans, profile.layers))

    console.rule("4. The adapter of one plan, built by PEFT and checked")
    plan = plans[STRATEGIES.index(rs.PerLayerID())]
    peft_model = get_peft_model(model, plan.to_lora_config(task_type="CAUSAL_LM"))
    plan.verify(peft_model)
    plan.save(out / "plan.json")
    console.print(f"PEFT built exactly the plan of {plan.summary}.")
    console.print(CLOSING.format(out=out))


def side_by_side(plans: list[rs.RankPlan], layers: tuple[str, ...]) -> Table:
    """One row per layer, one column per plan, and what each plan trains below."""
    table = Table("layer")
    for plan in plans:
        table.add_column(plan.strategy, justify="right")
    for layer in layers:
        table.add_row(layer, *(rank_in(plan, layer) for plan in plans))
    table.add_section()
    table.add_row("trainable parameters", *(f"{plan.trainable_parameters:,}" for plan in plans))
    table.add_row("of all parameters", *(f"{plan.trainable_percentage:.2f} %" for plan in plans))
    return table


def rank_in(plan: rs.RankPlan, layer: str) -> str:
    """The rank of a layer's modules: one number, or the smallest and the largest."""
    ranks = sorted({module.rank for module in plan.modules if module.target.layer == layer})
    return " to ".join(str(rank) for rank in dict.fromkeys((ranks[0], ranks[-1])))


CLOSING = """
{out}/profile.png and profile.json hold the profile, {out}/plan.json the plan; rs.RankPlan.load reads it back, and
plan.to_lora_config() gives the LoraConfig that any trainer takes.

What this shows: how many dimensions each layer uses on these texts, with its uncertainty, and which ranks follow.
What it does not show: that one of these plans trains better than another. A profile alone cannot tell. Plans differ
in how much they train, so compare them trained, over several seeds, each with its own best learning rate, and with
a uniform rank of as many parameters beside them: where the layers hardly differ in ID, so will the results."""


if __name__ == "__main__":
    main()
