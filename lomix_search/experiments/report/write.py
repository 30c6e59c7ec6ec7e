"""``lomix report``: one HTML file of a run or of a study."""

from pathlib import Path

from lomix_search.errors import RunError
from lomix_search.experiments.report.run_content import read_run_content
from lomix_search.experiments.report.run_page import run_page
from lomix_search.experiments.report.study_content import read_study_content
from lomix_search.experiments.report.study_page import study_page
from lomix_search.utils.files import write_text

_GOAL = "val.dice.best"


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write one self-contained HTML file: no network, no server, nothing beside it.

    Args:
        folder: A run folder, finished or not, or the folder of a study.
        out: The file to write; ``report.html`` in the folder by default.

    Returns:
        The file.

    Raises:
        RunError: the folder holds neither, or its files are damaged.
    """
    target = out or folder / "report.html"
    if target.suffix != ".html":
        raise RunError(f"{target}: a report is an .html file.", hint=f"--out {target.with_suffix('.html')}")
    is_study = any((folder / name).is_file() for name in ("study.json", "journal.log"))
    page = study_page(read_study_content(folder)) if is_study else run_page(read_run_content(folder))
    try:
        write_text(target, page)
    except OSError as cause:
        raise RunError(
            f"{target} cannot be written: {cause.strerror}.", hint=f"lomix report {folder} --out ELSEWHERE/report.html"
        ) from None
    return target
