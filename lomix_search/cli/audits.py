"""The referee of comparisons."""

from pathlib import Path
from typing import Annotated

import typer

from lomix_search.cli.common import AsJson, app, console, print_json
from lomix_search.errors import RunError


@app.command("audit")
def audit_command(
    what: Annotated[
        list[Path],
        typer.Argument(help="run folders, a comparison's or cross-validation's folder, or CSV files", metavar="WHAT …"),
    ],
    baseline: Annotated[str | None, typer.Option(help="method to compare with (default: the last layer)")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="print LaTeX tables, for an appendix")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a comparison is fair and its differences exceed the noise; exit code 1 if a check failed."""
    from lomix_search.experiments.audit.audit_text import (
        audit_to_dict,
        audit_to_latex,
        audit_to_markdown,
        audit_to_table,
    )
    from lomix_search.experiments.audit.referee import audit_paths
    from lomix_search.experiments.listing import locate_run

    if markdown + latex + as_json > 1:
        raise RunError("--markdown, --latex and --json: one at a time is printed.", hint="lomix audit WHAT --markdown")
    report = audit_paths([locate_run(path) for path in what], baseline)
    if as_json:
        print_json(audit_to_dict(report))
    elif markdown or latex:
        typer.echo((audit_to_markdown if markdown else audit_to_latex)(report), nl=False)
    else:
        console.print(audit_to_table(report))
    if report.failed:
        raise typer.Exit(1)
