"""The command line: what ``lomix --help`` lists, in the order of these files."""

# ruff: isort: skip_file

import sys
from typing import NoReturn

from rich.console import Console

from lomix_search.cli.app import app as app
from lomix_search.cli import runs, studies, shelf, network  # noqa: F401 — each adds its commands, in this order
from lomix_search.errors import LomixError


def main() -> NoReturn:
    """Run the command line; errors of the library print as text and end with exit code 2."""
    try:
        app()
    except LomixError as error:
        Console(stderr=True).print(f"[red]{type(error).__name__}[/red]: ", end="")
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
