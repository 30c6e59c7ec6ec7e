"""Blocks of volumes to train on: where they are cut, and how they are read without reading the rest."""

import numpy as np

from lomix_search.data.case import Array

_PLACES = 1000  # voxels of each label that are kept


def foreground_voxels(label: Array) -> Array:
    """Note where each label of a volume lies.

    Args:
        label: (slices, rows, columns), raw label values in the form of training.

    Returns:
        (n, 4) int32: label value, slice, row, column; at most 1000 voxels of each label above 0, the same each time.
    """
    rng, found = np.random.default_rng(0), []
    for value in np.unique(label[label > 0]):
        places = np.flatnonzero(label == value)
        if len(places) > _PLACES:
            places = np.sort(rng.choice(places, _PLACES, replace=False))
        found.append(np.stack([np.full(len(places), value), *np.unravel_index(places, label.shape)], 1))
    return np.concatenate(found).astype(np.int32) if found else np.zeros((0, 4), np.int32)
