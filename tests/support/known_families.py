"""What is known to be wrong about families."""

KNOWN = {
    "IterNet": "its second U is small enough to pass for a block",
    "ICNet": "stages are what it makes logits from, the expert names what goes on",
    "SSFormer": "all its stages have one size",
}
"""Families whose stages are not found by themselves, and why; ``stages=[…]`` taps them."""

INLINED = {
    "U2-Net": "its small U's are no blocks any more",
    "depth head, activated after the last fusion": "nothing tells where a fusion ends",
    **dict.fromkeys(
        ("RefineNet", "RefineNet in layers", "UCTransNet", "selective fusion"),
        "nothing tells the coarsest level's work from the encoder's, or the next level's",
    ),
    **dict.fromkeys(
        (
            "guided diffusion",
            "Restormer",
            "MIMO-UNet",
            "MultiResUNet",
            "R2U-Net",
            "FC-DenseNet",
            "ENet",
            "Cellpose",
            "CE-Net",
        ),
        "where a block ends with a sum or a norm, only its own call told so",
    ),
    "lists of modules that begin below": "its blocks go up inside",
    "blocks that project what they are given": "its blocks go up inside",
    "blocks that merge, work and go up": "its blocks go up inside",
    "columns that go round the globe": "where a block ends with a sum, only its own call told so",
}
"""Families whose stages change where a block's forward() is written into that of the module around it, and why."""
