"""Where the runs of a cross-validation lie: ``fold0``, ``fold1``, … in one folder."""

from pathlib import Path


def fold_runs(folder: Path) -> list[Path]:
    """Return the run folders of a cross-validation, in the order of the folds; empty if it is none."""
    found = {int(p.name[4:]): p for p in folder.glob("fold*") if p.name[4:].isdecimal() and p.is_dir()}
    return [found[number] for number in sorted(found)]
