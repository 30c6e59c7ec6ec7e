"""A check that a user runs on a protocol of their own."""

import itertools
import math

import numpy as np

from lomix_search.data.case import Array
from lomix_search.errors import DataError, LomixError
from lomix_search.evaluation.protocols.protocol import Protocol

_SPACING = (5.0, 0.8, 0.7)


class ProtocolFault(LomixError, AssertionError):
    """A protocol does not keep what it promises."""


def check_protocol(protocol: Protocol) -> None:
    """Check that a protocol is fit for evaluations: call it in a test of your own.

    Tried on random masks, on empty and on full ones, as a picture and, unless the protocol is made for pictures, as a
    volume; with and without a foreground probability, a known spacing and pixels that do not count. It reports its
    measures in their order as plain numbers, the same when it is called again, changes none of its arrays, and what is
    said of pixels that do not count changes nothing.

    Args:
        protocol: The protocol.

    Raises:
        ProtocolFault: what is wrong, and for which masks.

    Example:
        >>> from lomix_search.evaluation.protocols import find_protocol
        >>> check_protocol(find_protocol("strict"))
    """
    if not protocol.measures:
        raise ProtocolFault(f"protocol {protocol.name} reports no measure.", hint='measures=("dice",)')
    shapes = [(1, 24, 20)] if protocol.plane else [(1, 24, 20), (6, 24, 20)]
    for shape in shapes:
        for masks in itertools.product(("random", "empty", "full"), repeat=2):
            for ignored, soft, spacing in itertools.product((False, True), (False, True), ((), _SPACING)):
                _check_case(protocol, shape, masks, ignored, soft, spacing)
    if protocol.plane:
        _check_volume(protocol)


def _check_case(
    protocol: Protocol,
    shape: tuple[int, ...],
    masks: tuple[str, ...],
    ignored: bool,
    soft: bool,
    spacing: tuple[float, ...],
) -> None:
    case = f"prediction {masks[0]}, truth {masks[1]}, {shape}, spacing {spacing}"
    rng = np.random.default_rng(0)
    kept = rng.random(shape) > 0.2 if ignored else None
    prediction, truth = (_mask(rng, shape, what) & (True if kept is None else kept) for what in masks)
    probability = rng.random(shape, np.float32) if soft else None
    given = [array for array in (prediction, truth, probability, kept) if array is not None]
    before = [array.copy() for array in given]
    scores = protocol.score(prediction, truth, spacing, probability, kept)
    if tuple(scores) != protocol.measures:
        raise _fault(
            protocol, "does not report its measures", f"{case}: {', '.join(scores)}", f"measures={tuple(scores)}"
        )
    if not all(isinstance(value, float) and not math.isinf(value) for value in scores.values()):
        raise _fault(
            protocol,
            "reports what is no finite float and no NaN",
            f"{case}: {scores}",
            "float(value), and float('nan') where a measure is not defined",
        )
    if not all(map(np.array_equal, given, before)):
        raise _fault(
            protocol,
            "changes an array that it is given",
            case,
            "prediction = prediction.copy()   # before it is written to",
        )
    if probability is not None and kept is not None:
        probability = np.where(kept, probability, 1 - probability).astype(np.float32)
    again = protocol.score(prediction, truth, spacing, probability, kept)
    if not all(np.isclose(again[name], value, rtol=1e-9, atol=0, equal_nan=True) for name, value in scores.items()):
        reason = "it is called again" if kept is None else "only pixels that do not count change"
        cure = "np.random.default_rng(0)" if kept is None else "prediction[kept], truth[kept]   # count these alone"
        raise _fault(protocol, f"gives other scores when {reason}", case, cure)


def _mask(rng: np.random.Generator, shape: tuple[int, ...], what: str) -> Array:
    return rng.random(shape) > 0.6 if what == "random" else np.full(shape, what == "full")


def _check_volume(protocol: Protocol) -> None:
    volume = np.ones((3, 4, 5), bool)
    try:
        protocol.score(volume, volume, (), None, None)
    except DataError:
        return
    raise _fault(
        protocol,
        "is made for pictures and takes a volume of several slices",
        f"{volume.shape}",
        "plane_of(truth)   # of protocols.protocol: refuses it",
    )


def _fault(protocol: Protocol, what: str, seen: str, hint: str) -> ProtocolFault:
    return ProtocolFault(f"protocol {protocol.name} {what}.", seen=seen, hint=hint)
