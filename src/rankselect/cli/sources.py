"""Where the command line gets its model, tokenizer and texts: a folder, a file, or the Hugging Face hub."""

from __future__ import annotations

from rankselect.cli.texts import load_texts
from rankselect.models.loading import empty_model, load_model, load_tokenizer

__all__ = ["empty_model", "load_model", "load_texts", "load_tokenizer", "show_progress"]


def show_progress(*, wanted: bool) -> None:
    """Switch the progress bars of transformers on or off."""
    from transformers.utils import logging

    if wanted:
        logging.enable_progress_bar()
    else:
        logging.disable_progress_bar()
