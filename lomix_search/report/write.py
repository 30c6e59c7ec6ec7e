"""One HTML file of a run or of a study."""

from pathlib import Path

from lomix_search.errors import RunError
from lomix_search.report.run_page import run_page
from lomix_search.report.story import read_story
from lomix_search.typed import write_text


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
    write_text(target, run_page(read_story(folder)))
    return target
