"""What was found in a folder: its form, its cases, and what its own files say of labels and channels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lomix_search.data.masks.pairing import Pair
from lomix_search.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class FoundData:
    """A data set as it lies in a folder.

    Args:
        form: What it is called: ``nnU-Net raw``, ``Medical Segmentation Decathlon``, ``folders``, …
        root: Its folder.
        pairs: (images, label) by case name, sorted.
        faults: What does not pair up or contradicts itself, one line each.
        labels: Names of the label values, where a file says them; the background is not among them.
        modalities: Names of the channels, where a file says them.
        ignore: Label value of pixels that count nowhere, where a file says it.
        regions: Names of overlapping regions, each with its label values, where a file says them.
        written: The label value that each region is written as, in the order in which they are painted, where a file
            says it.
        groups: The set of each case, where folders name sets (``train``, ``test``).
        patients: Whose each case is, where folders or DICOM files say it.
        grouped: What says so, in words; empty where nothing does.
        said: Which file said so, for messages and comments; empty where none did.
        notes: What else there is to know, one line each.
        preprocessed: What another program has done to the images; None for images as they came.
    """

    form: str
    root: Path
    pairs: Mapping[str, Pair]
    faults: tuple[str, ...] = ()
    labels: Mapping[int, str] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    ignore: int | None = None
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    written: tuple[int, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    patients: Mapping[str, str] = field(default_factory=dict)
    grouped: str = ""
    said: str = ""
    notes: tuple[str, ...] = ()
    preprocessed: Preprocessing | None = None

    @property
    def by_folder(self) -> bool:
        """Whether folders say whose a case is, which may be kinds of cases too."""
        return bool(self.patients) and "folder" in self.grouped
