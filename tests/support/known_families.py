"""What is known to be wrong about families."""

KNOWN = {
    "IterNet": "its second U is small enough to pass for a block",
    "ICNet": "stages are what it makes logits from, the expert names what goes on",
    "SSFormer": "all its stages have one size",
}
"""Families whose stages are not found by themselves, and why; ``stages=[…]`` taps them."""

INLINED = {
    "U2-Net": "its small U's are no blocks any more",
    "depth head, activated after the last fusion": "a fusion ends after it has gone up, which nothing else tells",
    "RefineNet": "the layer before a level goes up belongs to the next block",
    "blocks that project what they are given": "the layer before a level goes up belongs to the next block",
    "CE-Net": "the layer before a level goes up belongs to the next block",
    "blocks that work and go up, the last without a skip": "nothing tells the coarsest level's work from the encoder's",
    "blocks that merge, work and go up": "nothing tells the coarsest level's work from the encoder's",
    "blocks that work, pad and go up, the coarsest too": "nothing tells the coarsest level's work from the encoder's",
    "only a norm before what works and goes up": "the layer before a level goes up belongs to the next block",
    "each layer ends with a row that is cut off": "what cuts each layer is no longer told from what cuts the level",
    "levels smoothed by layers in turn, a head that goes up twice": (
        "the layers that smooth a level are told from a head's by the block around them"
    ),
    "resampled by indices": "nothing tells the coarsest level's work from the encoder's",
}
"""Families whose stages change where a block's forward() is written into that of the module around it, and why."""
