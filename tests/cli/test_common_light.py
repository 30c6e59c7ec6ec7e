"""Help, the version and shell completion come at once: none of them imports torch."""

import subprocess
import sys

CODE = """
import os, sys
from typer.main import get_command
from typer.testing import CliRunner
from lomix_search.cli import app

def commands(group, before=()):
    for name, command in group.commands.items():
        yield (*before, name)
        yield from commands(command, (*before, name)) if hasattr(command, "commands") else ()

typed = [("--version",), ("-h",), *((*words, "-h") for words in commands(get_command(app)))]
for words in typed:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0 and result.output, words
    assert "torch" not in sys.modules, words
asked = {"_LOMIX_COMPLETE": "complete_bash", "COMP_WORDS": "lomix ru", "COMP_CWORD": "1"}
result = CliRunner().invoke(app, [], prog_name="lomix", env=asked)
assert result.output.split() == ["run", "runs"], result.output
assert "torch" not in sys.modules, "shell completion"
print(len(typed))
"""


def test_help_version_and_completion_import_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) > 25, done.stderr
