"""Whose each case is: by what DICOM files say of themselves, else by the folders that cases lie in.

What a file calls a patient may be personal data. It groups cases and is forgotten: a patient is called by the first of
its cases, and nothing that is written holds anything else.
"""

from collections.abc import Mapping

from lomix_search.data.masks.pairing import Pair
from lomix_search.data.readers.dicom_file import is_dicom, patient_key
from lomix_search.errors import DataError

_FOLDERS = "the first folder of each case"
_FILES = "PatientID of the DICOM files"


def patients_of(pairs: Mapping[str, Pair], folders: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Say whose each case is.

    Args:
        pairs: (images, mask) by case name.
        folders: The first folder of each case, where folders may be patients; else empty.

    Returns:
        The patient of each case, and by what it was told; both empty where nothing tells it. Files tell it where every
        case has a PatientID and these are not all the same, as a tool that removes names leaves them.
    """
    if pairs and all(is_dicom(images[0]) for images, _ in pairs.values()):
        try:
            keys = {name: patient_key(images[0]) for name, (images, _) in pairs.items()}
        except DataError:  # reading the case says what is wrong with it
            keys = {}
        if all(keys.values()) and len(set(keys.values())) > 1:
            first: dict[tuple[str, ...], str] = {}
            return {name: first.setdefault(key, name) for name, key in sorted(keys.items())}, _FILES
    return (dict(folders), _FOLDERS) if folders else ({}, "")
