"""What is known to be wrong about families."""

KNOWN = {
    "KiU-Net": "it goes up first",
    "IterNet": "its second U is small enough to pass for a block",
    "ICNet": "stages are what it makes logits from, the expert names what goes on",
    "SSFormer": "all its stages have one size",
}
"""Families whose stages are not found by themselves, and why; ``stages=[…]`` taps them."""

INLINED: dict[str, str] = {}
"""Families whose stages change where a block's forward() is written into that of the module around it, and why."""
