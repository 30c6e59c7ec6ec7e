"""The authors' own numbers, and whether ours are near."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lomix_search.mixture.loss import MixtureLoss
from support.places import TESTS

GOLDEN = sorted((TESTS / "golden").glob("*.npz"))


class Golden:
    """One file, in our words: operators by our names, scales from 1."""

    def __init__(self, path: Path, engine: str) -> None:
        self.file = {key: torch.from_numpy(value) for key, value in np.load(path).items() if value.dtype.kind != "U"}
        text = np.load(path)
        self.operators = text["operators"].tolist()
        self.subsets = text["subsets"].tolist()
        self.maps = self.file["maps"].clone().requires_grad_()
        space = "lomix" if "concat" in self.operators else "mutation"
        self.loss = MixtureLoss(space, len(self.maps), self.maps.shape[2], engine=engine).double()
        with torch.no_grad():
            self.loss.weighting.theta.copy_(self.thetas(""))
            for name, parameter in self.parameters().items():
                parameter.copy_(self.file[name])

    def thetas(self, prefix: str) -> Tensor:
        return torch.cat([self.file[f"{prefix}theta_{name}"] for name in ("original", *self.operators)])

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Our parameters by the file's names: ``concat_013_weight`` is ours of ``concat(1,2,4)``."""
        found = {}
        for key, module in self.loss.operators.items():
            shared = key.startswith("attention")
            tag = f"wf_{key[10:-1]}" if shared else "concat_" + "".join(str(int(s) - 1) for s in key[7:-1].split(","))
            found |= {f"{tag}_{name}": parameter for name, parameter in module.named_parameters()}
        return found


def close(found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max().clamp(min=1e-30)
    assert found.shape == expected.shape
    assert ((found - expected).abs() <= 1e-10 * expected.abs() + 1e-12 * scale).all(), (found, expected)
