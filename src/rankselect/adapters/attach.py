"""Attaches a saved adapter to a loaded model, with a precise error if it does not fit."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from peft import PeftModel, get_peft_model_state_dict

from rankselect.adapters.adapter_folder import read_adapter
from rankselect.adapters.merged_from import MergedFrom
from rankselect.adapters.record import TrainingRecord
from rankselect.errors import AdapterError, RankSelectWarning, first_sentence
from rankselect.models._transformers import old_names_allowed
from rankselect.models.layers import require_model, unwrapped
from rankselect.models.names import model_name
from rankselect.models.quantized_layers import quantization_of

if TYPE_CHECKING:
    import os

    from torch import nn

__all__ = ["attach_adapter"]


def attach_adapter(model: nn.Module, path: str | os.PathLike[str]) -> PeftModel:
    """Load an adapter folder onto its base model, with every tensor in its place.

    Plain PEFT fills in fresh weights for tensors that are missing, with a warning at most.

    Args:
        model: The base model, quantised or not.
        path: A folder that `RankSelectTrainer.save_adapter` or PEFT's `save_pretrained` wrote.

    Returns:
        The PEFT model, in evaluation mode. Its attribute ``training_record`` is the record in the folder, if there is
        one; `generate_answers` and `answer_losses` use its prompt template.

    Raises:
        AdapterError: If the folder is incomplete or damaged, or belongs to another base model; or if the adapter was
            already merged into this one.

    Warns:
        RankSelectWarning: If the base model is quantised in another way than in training.

    Example:
        >>> import tempfile
        >>> from peft import LoraConfig, get_peft_model
        >>> from rankselect.testing import tiny_model
        >>> folder = tempfile.mkdtemp()
        >>> get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
        >>> attach_adapter(tiny_model(), folder).peft_config["default"].r
        2
    """
    require_model(model)
    adapter = read_adapter(path)
    merged = MergedFrom.of_model(model)
    if merged and merged.is_of(adapter):
        raise AdapterError(
            "a base model without this adapter",
            f"{model_name(model)}, into which {merged.adapter} was merged",
            "Use the merged model by itself, or load the base model.",
        )
    try:
        with old_names_allowed():
            attached: PeftModel = PeftModel.from_pretrained(model, str(adapter.path))
    except KeyError as error:  # of a module to save
        raise _other_base(path, f"it has no {error.args[0]}") from error
    except (RuntimeError, ValueError) as error:
        raise _other_base(path, first_sentence(error)) from error
    names = {name for name, _ in unwrapped(attached).named_modules()}
    absent = [module.name for module in adapter.modules if module.name not in names]
    if absent:
        raise _other_base(path, f"the model has no module {absent[0]}")
    lacking = _trained(attached) - {
        *adapter.full_parameters.values(),
        *(key for each in adapter.modules for key in each.keys),
    }
    if lacking:
        raise _other_base(path, f"it has no {min(lacking)}")
    if adapter.record:
        record = TrainingRecord.load(adapter.path)
        vars(attached)["training_record"] = record  # a plain attribute, not a submodule
        _warn_of_other_storage(model, record, path)
    return attached.eval()


def _warn_of_other_storage(model: nn.Module, record: TrainingRecord, path: str | os.PathLike[str]) -> None:
    stored = quantization_of(unwrapped(model))
    if stored != record.quantization:
        warnings.warn(
            f"{path} was trained on a base model with quantization {record.quantization}, and this one has "
            f"{stored}: its answers and losses differ from those in training.",
            RankSelectWarning,
            stacklevel=3,
        )


def _trained(attached: PeftModel) -> set[str]:
    """The names that PEFT would save the tensors of the adapter under."""
    parameters = dict(attached.named_parameters())  # state_dict() would repack weights of four bits
    return set(get_peft_model_state_dict(attached, state_dict=parameters, save_embedding_layers=False))


def _other_base(path: str | os.PathLike[str], why: str) -> AdapterError:
    return AdapterError("an adapter of this base model", f"{path} ({why})", "Load the base model it was trained on.")
