"""The base model of a study, loaded anew for each run, and the count of its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from transformers.utils import logging

from rankselect.data.prompt_tokens import PromptTokens
from rankselect.data.prompts import PromptTemplate
from rankselect.files import new_folder
from rankselect.models.loading import load_model, load_tokenizer
from rankselect.models.names import load_config
from rankselect.study.folder import StudyFolder
from rankselect.study.rows import embedded_rows
from rankselect.training.small_phi import small_phi

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rankselect.study.config import StudyConfig

__all__ = ["SMALL_PHI", "prepare_base", "require_room", "stored_parameters", "study_model", "study_tokenizer"]

SMALL_PHI = "small-phi"
"""The name of the small Phi model, which a study trains itself and saves in its folder."""


def prepare_base(config: StudyConfig, folder: Path, *, progress: bool) -> None:
    """Train the small model, if the study uses it and has not trained it yet, on rows that no adapter is trained on."""
    if config.model == SMALL_PHI and not StudyFolder(folder).model.exists():
        template = PromptTemplate(config.template)
        texts = [template.text(row.question, row.answer) for row in embedded_rows("base")]
        model, tokenizer = small_phi(texts=texts, progress=progress)
        with new_folder(StudyFolder(folder).model) as target:
            model.save_pretrained(target)
            tokenizer.save_pretrained(target)
        require_room(config, folder)


def require_room(config: StudyConfig, folder: Path) -> None:
    """Check before training that a prompt and `max_new_tokens` fit into the model's context.

    Raises:
        DataError: If the template's own text and `max_new_tokens` already exceed the context.
    """
    described: Any = nn.Module()
    described.config = load_config(_name(config, folder), trust_remote_code=False)
    PromptTokens(study_tokenizer(config, folder), PromptTemplate(config.template)).room(
        described, config.max_new_tokens
    )


def study_model(config: StudyConfig, folder: Path) -> PreTrainedModel:
    """Load the base model of every arm; without a progress bar, because each run loads it."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return load_model(
            _name(config, folder), quantization=config.quantization, dtype=config.dtype, device_map=config.device_map
        )
    finally:
        if shown:
            logging.enable_progress_bar()


def study_tokenizer(config: StudyConfig, folder: Path) -> PreTrainedTokenizerBase:
    """Load the base model's tokenizer."""
    return load_tokenizer(_name(config, folder))


def stored_parameters(model: nn.Module) -> int:
    """Count the elements in which a model's parameters are stored. bitsandbytes packs two 4-bit weights into one.

    Relative to this number, the share of trainable parameters of a 4-bit model is about twice as high.

    Example:
        >>> from torch import nn
        >>> stored_parameters(nn.Linear(4, 2))
        10
    """
    return sum(parameter.numel() for parameter in model.parameters())


def _name(config: StudyConfig, folder: Path) -> Any:
    return StudyFolder(folder).model if config.model == SMALL_PHI else config.model
