"""The pictures of docs/stages.md: small networks of the families, each with the stages that are found."""

import torch

from lomix_search.instrumentation.diagram import draw
from lomix_search.instrumentation.stages import find_stages
from lomix_search.instrumentation.trace import trace
from support.families import FAMILIES

PICTURES = {
    "plain": "checkpointed",
    "siamese": "siamese, differences for skips",
    "pyramid": "a pyramid laid side by side and projected",
    "tokens": "Swin-Unet",
    "cascade": "W-Net",
    "fusion": "depth head, activated after the last fusion",
}
"""Name of the file in docs/stages → a family."""


def picture(family: str) -> str:
    """Return the SVG of a family with its stages."""
    entry = next(entry for entry in FAMILIES if entry["id"] == family)
    torch.manual_seed(0)
    model, inputs = entry["build"]().eval(), entry["inputs"]()
    return draw(trace(model, inputs), find_stages(model, inputs).stages)
