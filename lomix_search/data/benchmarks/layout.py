"""What is said of a dataset's raw files: where its cases are, how they are read, and what their labels mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lomix_search.data.case import Case
from lomix_search.data.preprocessing import Preprocessing

_Finder = Callable[[Path], "list[Source]"]


@dataclass(frozen=True)
class Source:
    """The files of one case, and how to read them.

    Args:
        name: Name of the case; the same whatever form the files have.
        patient: Whose it is; splits never cut through a patient.
        group: The set that its folder names (``"train"``, ``"CVC-300"``); empty where folders say nothing.
        files: All files that it is read from.
        read: Reads them.
        reading: What their reading depends on beside their content, in words; a case that was prepared by another
            reading is made again.
    """

    name: str
    patient: str
    group: str
    files: tuple[Path, ...]
    read: Callable[[], Case]
    reading: str = ""


@dataclass(frozen=True)
class DatasetLayout:
    """What is known of a benchmark's files.

    Args:
        name: Of the benchmark.
        find: Raw folder → sources, sorted by name.
        labels: Names of the label values of the raw form; 0 is the background.
        intensity: ``ct`` clips to −125 … 275 HU and scales to 0 … 1; ``mr`` scales the 0.5 to 99.5 percentiles of a
            volume to 0 … 1; ``picture`` keeps 0 … 255; ``range`` scales ``window`` to 0 … 1.
        size: Rows and columns that training sees by default.
        short_form: An order of names in use for preprocessed files that renumber the labels. Several are in use, so it
            is suggested to the user and never assumed.
        window: Of a CT, in HU, where it is not −125 … 275; of ``range``, what all images lie in.
        dims: 2: training sees slices or pictures; 3: volumes.
        spacing: Millimetres between slices, rows and columns that volumes are brought to for training; the median of
            all cases when left out.
        modalities: Names of the channels (``"CT"``, ``"T1"``, …), where they are known.
        ignore: Raw label value of pixels that count nowhere.
        regions: Names of overlapping regions, each with the raw label values that belong to it: each region is then a
            label of its own (multi-label). Empty: the labels are classes.
        written: The raw value that each region is written as, in the order in which they are painted over one another;
            found out when left out.
        measured: Cases whose intensities are measured where all images have one scaling (CT); those that their folder
            does not call test when left out.
        preprocessed: What another program has done to the images; None for images as they came.
    """

    name: str
    find: _Finder
    labels: Mapping[int, str]
    intensity: Literal["ct", "mr", "picture", "range"]
    size: int
    short_form: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    dims: Literal[2, 3] = 2
    spacing: tuple[float, float, float] | None = None
    modalities: tuple[str, ...] = ()
    ignore: int | None = None
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    written: tuple[int, ...] = ()
    measured: frozenset[str] | None = None
    preprocessed: Preprocessing | None = None
