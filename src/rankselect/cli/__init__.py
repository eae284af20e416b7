"""The command line, `rankselect`: profile, plan, train, evaluate, study, merge, export, and list the plug-ins."""

from __future__ import annotations

import sys

from rankselect.errors import MissingExtraError

__all__ = ["main"]

_EXTRA = ("typer", "rich")


def main() -> None:
    """Run the command line; if its optional packages are missing, print how to install them and exit with code 2."""
    try:
        from rankselect.cli.app import app  # optional
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        sys.stderr.write(f"error: {MissingExtraError(package, 'cli')}\n")
        raise SystemExit(2) from None
    app()
