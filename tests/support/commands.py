"""Commands as a user types them, in this process."""

import sys

import pytest
from typer.testing import CliRunner

from lomix_search.cli import app, main


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def failing(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(sys, "argv", ["lomix", *arguments])
        main()
    assert caught.value.code == 2
    return capfd.readouterr().err


def ending(code: int, *arguments: str) -> str:
    """Run a command that ends with an exit code; return what it printed."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output
