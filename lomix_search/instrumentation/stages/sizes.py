"""Which of two maps is on a finer level, by their sizes alone."""

Size = tuple[int, ...]

RISE = 1.4
"""A map this many times larger along some axis is on the next level; less is padding, cropping or rounding."""

DOUBLE = 1.9
"""As RISE, for copies: into a map that is a little larger they pad, into one twice as large they go up (wavelets).

And for what goes down: a convolution without padding takes a third of a small map away, and stays on its level."""


def grows(a: Size, b: Size, rise: float = RISE) -> bool:
    """Whether a map of size ``b`` is on a finer level than one of size ``a``; compared from the last axis."""
    ratios = [y / x for x, y in zip(a[::-1], b[::-1], strict=False)]
    return max(ratios) >= rise and min(ratios) > 1 / RISE
