"""Enhanced DICOM: one file of many frames, each with its own place, spacing and slope, as the slices of a series.

What a frame says of itself stands in its functional groups, else in those that all frames share, as part 3, C.7.6.16 of
the standard has it. A file of many frames without such groups does not say where they lie, and is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lomix_search.data.readers.dicom_file import path_of
from lomix_search.data.readers.guard import readable
from lomix_search.errors import DataError

_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
}
_NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_ALL_FRAMES = frozenset(key for keys in _GROUPS.values() for key in keys)


@dataclass(frozen=True)
class DicomFrame:
    """One frame, which answers as a slice that is a file of its own does.

    Args:
        whole: The file's data set.
        number: Of the frame, from 0.
        own: What its functional groups say.
    """

    whole: Any
    number: int
    own: dict[str, Any]

    @property
    def filename(self) -> str:
        """The file."""
        return str(self.whole.filename)

    @property
    def pixel_array(self) -> Any:
        """The frame's stored values."""
        return self.whole.pixel_array[self.number]

    def get(self, key: str, default: Any = None) -> Any:
        """Return an attribute: of places and values that of the frame alone, of all else the file's."""
        if key == "NumberOfFrames":
            return 1
        return self.own.get(key, default) if key in _ALL_FRAMES else self.whole.get(key, default)

    def __getattr__(self, key: str) -> Any:
        return self.get(key)


def frames_of(d: Any) -> list[Any]:
    """Return the slices of a file.

    Args:
        d: pydicom's data set.

    Returns:
        The data set itself, where it is a slice; else one :class:`DicomFrame` each.

    Raises:
        DataError: many frames that do not say where they lie, how large their pixels are, or that a frame is missing.
    """
    with readable(path_of(d)):
        count = int(d.get("NumberOfFrames") or 1)
        groups = d.get("PerFrameFunctionalGroupsSequence")
        if groups is None:
            if count == 1:
                return [d]
            raise DataError(
                f"{path_of(d)} holds {count} frames and does not say where each lies.",
                seen="no PerFrameFunctionalGroupsSequence, as enhanced CT and MR have it",
                hint="export it as single slices, or as enhanced DICOM; frames over time are no volume",
            )
        if len(groups) != count:
            raise DataError(f"{path_of(d)} says {count} frames, and describes {len(groups)}.", hint="export it again")
        shared = next(iter(d.get("SharedFunctionalGroupsSequence") or ()), None)
        return [DicomFrame(d, number, dict(_said(d, group, shared))) for number, group in enumerate(groups)]


def _said(d: Any, group: Any, shared: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a frame's groups say, and what all frames share where its own do not say it."""
    found = set()
    for sequence, keys in _GROUPS.items():
        items = group.get(sequence) or (shared.get(sequence) if shared is not None else None) or ()
        for item in items[:1]:
            for key in keys:
                if (value := item.get(key)) is not None:
                    found.add(key)
                    yield key, value
    if lacking := [key for key in _NEEDED if key not in found]:
        raise DataError(
            f"{path_of(d)}: its frames have no {', '.join(lacking)}.",
            hint="export it as single slices; frames over time or of a sweep are no volume",
        )
