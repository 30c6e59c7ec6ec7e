"""``lomix report``: one HTML file of a run, a study, a cross-validation or a comparison."""

from contextlib import suppress
from pathlib import Path

from lomix_search.errors import LomixError, RunError
from lomix_search.experiments.folds.fold_folders import fold_runs
from lomix_search.experiments.folds.scored_folds import is_cross_validation
from lomix_search.experiments.report.compare_page import compare_page, is_comparison
from lomix_search.experiments.report.folds_content import read_folds_content
from lomix_search.experiments.report.folds_page import folds_page
from lomix_search.experiments.report.run_content import read_run_content
from lomix_search.experiments.report.run_page import run_page
from lomix_search.experiments.report.study_content import read_study_content
from lomix_search.experiments.report.study_page import study_page
from lomix_search.utils.files import write_text


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write one self-contained HTML file: no network, no server, nothing beside it.

    Args:
        folder: A run folder, finished or not, or the folder of a study, a cross-validation or a comparison.
        out: The file to write; ``report.html`` in the folder by default: that of a cross-validation then leads to the
            folds' reports, which are written too.

    Returns:
        The file.

    Raises:
        RunError: the folder holds none of these, or its files are damaged.
    """
    target = out or folder / "report.html"
    if target.suffix != ".html":
        raise RunError(f"{target}: a report is an .html file.", hint=f"--out {target.with_suffix('.html')}")
    if any((folder / name).is_file() for name in ("study.json", "journal.log")):
        page = study_page(read_study_content(folder))
    elif is_comparison(folder):
        page = compare_page(folder)
    elif is_cross_validation(folder):
        beside = target.parent.resolve() == folder.resolve()
        page = folds_page(read_folds_content(folder, _of_folds(folder) if beside else frozenset()))
    else:
        page = run_page(read_run_content(folder))
    try:
        write_text(target, page)
    except OSError as cause:
        raise RunError(
            f"{target} cannot be written: {cause.strerror}.", hint=f"lomix report {folder} --out ELSEWHERE/report.html"
        ) from None
    return target


def _of_folds(folder: Path) -> frozenset[str]:
    """Write the report of each fold; return the names of those that have one. A fold of damaged files has none."""
    written = set()
    for place in fold_runs(folder):
        with suppress(LomixError):
            written.add(write_report(place).parent.name)
    return frozenset(written)
