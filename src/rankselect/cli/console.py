"""Output on the terminal: one line for each error and warning, and no messages from libraries."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from rankselect.errors import RankSelectError, RankSelectWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["in_shell", "one_line", "reporting", "show", "show_progress", "simple_table", "stderr", "stdout"]

_NOISY = ("accelerate", "bitsandbytes", "datasets", "huggingface_hub", "peft", "transformers")
_PLAIN = str.maketrans({"±": "+-", "●": "o", "─": "-", "├": "|", "┤": "|", "…": "..."})
_OPTIONS = {"question": "--question", "answer": "--answer", "text": "--text", "field": "--text"}
_LOADING = re.compile(r"load_(?:rows|texts)\(…, ([^)]*)\)")
_PHRASES = {"PromptTemplate.chat": "--template chat"}


def stdout() -> Console:
    """Return the console for results."""
    return Console(highlight=False)


def stderr() -> Console:
    """Return the console for everything else: errors, warnings, and tables next to machine-readable results."""
    return Console(stderr=True, highlight=False)


def show(console: Console, text: str, *, wrap: bool = False) -> None:
    """Print text without markup, and replace characters that the terminal cannot show.

    Args:
        console: The console to print on.
        text: The text.
        wrap: Break lines between words at the terminal's width.
    """
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN).encode(console.encoding, "replace").decode(console.encoding)
    console.print(text, markup=False, soft_wrap=not wrap)


def show_progress(*, enabled: bool) -> None:
    """Switch the progress bars of transformers on or off."""
    from transformers.utils import logging

    if enabled:
        logging.enable_progress_bar()
    else:
        logging.disable_progress_bar()


def simple_table(*header: str, numbers: int = 0) -> Table:
    """Create a table without a frame.

    Args:
        *header: The names of its columns.
        numbers: The number of columns at the end that are aligned right.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index >= len(header) - numbers else "left")
    return table


def one_line(text: object) -> str:
    """Return a text on one line."""
    return " ".join(str(text).split())


def in_shell(message: str) -> str:
    """Return a message of the library with options of the command line instead of Python arguments.

    Args:
        message: The text of an error or a warning.

    Example:
        >>> in_shell("Name the column: load_rows(…, answer=COLUMN). To skip: load_rows(…, skip_faulty=True).")
        'Name the column: --answer COLUMN. To skip: --skip-faulty-rows.'
    """
    message = _LOADING.sub(lambda found: " ".join(map(_option, found.group(1).split(", "))), message)
    for python, shell in _PHRASES.items():
        message = message.replace(python, shell)
    return message


def _option(argument: str) -> str:
    """Return the option for an argument of `load_rows` or `load_texts`."""
    name, _, value = argument.partition("=")
    return "--skip-faulty-rows" if name == "skip_faulty" else f"{_OPTIONS[name]} {value}"


@contextmanager
def reporting(*, debug: bool) -> Iterator[None]:
    """Turn errors into one line and an exit code, warnings into one line, and silence libraries.

    Exit codes: 2 for errors that the user can fix, 1 for unexpected errors, 130 after Ctrl-C.

    Args:
        debug: Print the traceback before the line, and let libraries log and warn.
    """
    with warnings.catch_warnings(), _logging(debug=debug):
        _show_warnings(debug=debug)
        try:
            yield
        except (typer.Exit, typer.Abort, BrokenPipeError):  # handled by Typer
            raise
        except KeyboardInterrupt:
            _labelled("error", "interrupted.", "red")
            raise typer.Exit(130) from None
        except Exception as error:  # noqa: BLE001  (users see one line instead of a traceback)
            if debug:
                traceback.print_exc()
            message, code = _explained(error)
            _labelled("error", in_shell(message), "red")
            raise typer.Exit(code) from None


def _explained(error: Exception) -> tuple[str, int]:
    """Return the message for an error, and the exit code."""
    if isinstance(error, RankSelectError):
        return str(error), 2
    if isinstance(error, OSError):
        what = f"cannot use {error.filename}: {error.strerror}" if error.filename else str(error)
        return f"{what}. Check the path and its permissions.", 2
    if type(error).__name__ == "OutOfMemoryError":  # of torch, which is not imported here
        return "out of memory. Use a smaller --batch-size or --max-length, or --quantization nf4.", 2
    return f"{type(error).__name__}: {error} (unexpected: put --debug before the command for a traceback)", 1


def _labelled(label: str, message: str, colour: str) -> None:
    from tqdm.auto import tqdm

    console = stderr()
    with tqdm.external_write_mode(sys.stderr):  # clears the progress bars first, and draws them again afterwards
        console.print(f"{label}: ", style=f"bold {colour}", end="")
        show(console, one_line(message))


def _show_warnings(*, debug: bool) -> None:
    """Show our own warnings as one line each, each once; those of libraries only with debug."""
    unchanged, shown = warnings.showwarning, set[str]()
    if not debug:
        warnings.simplefilter("ignore")
    warnings.simplefilter("always", RankSelectWarning)

    def showwarning(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if issubclass(category, RankSelectWarning):
            text = in_shell(str(message))
            if text not in shown:
                shown.add(text)
                _labelled("warning", text, "yellow")
        else:
            unchanged(message, category, *args, **kwargs)

    warnings.showwarning = showwarning


@contextmanager
def _logging(*, debug: bool) -> Iterator[None]:
    if debug:
        logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
        logging.getLogger("rankselect").setLevel(logging.DEBUG)
        yield
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when transformers is imported
    news, handler = logging.getLogger("rankselect"), _Lines()
    news.addHandler(handler)
    level = news.level
    news.setLevel(logging.INFO)
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        news.removeHandler(handler)
        news.setLevel(level)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@final
class _Lines(logging.Handler):
    """Shows what rankselect logs as plain lines: its warnings, and its progress where there is no terminal for bars."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING if sys.stderr.isatty() else logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Show one message."""
        if record.levelno < logging.WARNING:
            show(stderr(), one_line(record.getMessage()))
        else:
            _labelled("warning", one_line(record.getMessage()), "yellow")
