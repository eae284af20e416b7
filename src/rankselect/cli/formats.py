"""A plan as text, in the words of the program that trains it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from rankselect.errors import ArgumentError
from rankselect.files import as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from rankselect.plan.rank_plan import RankPlan

__all__ = ["Format", "as_text", "reader"]

Format = Literal["json", "peft", "axolotl"]


def as_text(plan: RankPlan, kind: Format) -> str:
    """Write a plan out for one of its readers.

    Args:
        plan: The plan.
        kind: ``"json"``: for `RankPlan.load`. ``"peft"``: PEFT's ``adapter_config.json``. ``"axolotl"``: the LoRA keys
            of an axolotl config, in YAML; its patterns need version 0.18.

    Raises:
        ArgumentError: If an alpha is not whole and the reader takes whole ones only.
    """
    writers: dict[Format, Callable[[RankPlan], str]] = {"json": _document, "peft": _peft, "axolotl": _axolotl}
    return writers[kind](plan)


def reader(kind: Format, path: Path) -> str:
    """One phrase: who reads the file, and how."""
    if kind == "peft":
        named = path.name == "adapter_config.json"
        rename = "" if named else "name it adapter_config.json: "
        return f"{rename}LoraConfig.from_pretrained reads the folder it is in"
    return "RankPlan.load reads it" if kind == "json" else "copy its keys into your axolotl config"


def _document(plan: RankPlan) -> str:
    return as_json(plan.to_dict())


def _peft(plan: RankPlan) -> str:
    with TemporaryDirectory() as folder:
        plan.to_lora_config(base_model_name_or_path=plan.model_name).save_pretrained(folder)
        return (Path(folder) / "adapter_config.json").read_text(encoding="utf-8") + "\n"


def _axolotl(plan: RankPlan) -> str:
    fraction = next((alpha for alpha in plan.alphas.values() if not alpha.is_integer()), None)
    if fraction is not None:
        raise ArgumentError(
            "whole alphas, which are all that axolotl takes",
            f"an alpha of {fraction:g}",
            "Use a whole --alpha-ratio, for example 8.",
        )
    config = plan.to_lora_config()
    keys: dict[str, Any] = {
        "adapter": "lora",
        "lora_r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_target_modules": plan.target_modules if isinstance(plan.target_modules, str) else [*plan.target_modules],
        "lora_rank_pattern": config.rank_pattern,
        "lora_alpha_pattern": config.alpha_pattern,
    }
    return _yaml({name: value for name, value in keys.items() if value != {}})


def _yaml(keys: dict[str, Any]) -> str:
    """YAML in the given order, regular expressions in single quotes, where a backslash is just a backslash."""
    import yaml  # type: ignore[import-untyped]  # comes with transformers

    def quoted(dumper: Any, text: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isidentifier() else "'")

    dumper = type("Dumper", (yaml.SafeDumper,), {})  # a class of our own, since representers belong to the class
    dumper.add_representer(str, quoted)  # type: ignore[attr-defined]
    return str(yaml.dump(keys, Dumper=dumper, sort_keys=False, width=10_000))
