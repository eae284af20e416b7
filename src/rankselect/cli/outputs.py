"""Checks of the files to write, before the work that fills them begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankselect.errors import ArgumentError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_folder", "check_picture"]


def check_folder(path: Path) -> None:
    """Refuse a file that cannot be written because of where it is to stand.

    Raises:
        ArgumentError: If its folder does not exist, or it is a folder itself.
    """
    if path.is_dir():
        raise ArgumentError("a file to write", f"{path}, which is a folder", f"Name a file in it: {path / 'name'}.")
    if not path.parent.is_dir():
        raise ArgumentError(
            "a file to write in a folder that exists", str(path), f"Create the folder first: mkdir -p {path.parent}"
        )


def check_picture(path: Path) -> None:
    """Refuse a picture that cannot be drawn or written.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ArgumentError: If matplotlib does not know the kind of file, or the folder does not exist.
    """
    try:
        from matplotlib.figure import Figure  # optional
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    kinds = Figure().canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in kinds:
        raise ArgumentError("a picture file that matplotlib can write", str(path), "Name it .png, .pdf or .svg.")
    check_folder(path)
