"""Small U-shaped networks of our own, one oddity each, and the published ones that the main suite can build."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def block(dims: int, given: int, channels: int) -> nn.Sequential:
    return nn.Sequential(_CONV[dims](given, channels, 3, padding=1), _NORM[dims](channels), nn.ReLU(inplace=True))


class SmallUNet(nn.Module):
    """Three levels, skips by concatenation, nearest upsampling by a function, dropout, a 1×1 head."""

    def __init__(self, dims: int = 2, classes: int = 3, width: int = 4) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [
                block(dims, 1, width),
                block(dims, width, 2 * width),
                block(dims, 2 * width, 4 * width),
            ]
        )
        self.up = nn.ModuleList([block(dims, 6 * width, 2 * width), block(dims, 3 * width, width)])
        self.pool = _POOL[dims](2)
        self.dropout = nn.Dropout(0.1)
        self.head = _CONV[dims](width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for i, down in enumerate(self.down):
            x = down(self.pool(x) if i else x)
            skips.append(x)
        x = self.dropout(skips.pop())
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        return self.head(x)


def small_unet_2d() -> tuple[nn.Module, Tensor, list[str]]:
    return SmallUNet(2), torch.rand(2, 1, 32, 32), ["up.0", "up.1"]


def small_unet_3d() -> tuple[nn.Module, Tensor, list[str]]:
    return SmallUNet(3), torch.rand(1, 1, 16, 16, 16), ["up.0", "up.1"]


def monai_unet(dims: int) -> tuple[nn.Module, Tensor, list[str]]:
    from monai.networks.nets import UNet

    net = UNet(dims, 1, 3, (4, 8, 16), (2, 2), num_res_units=1)
    return net, torch.rand(2, 1, *[16] * dims), ["model.1.submodule.2", "model.2.0"]


def monai_basic_unet(dims: int) -> tuple[nn.Module, Tensor, list[str]]:
    from monai.networks.nets import BasicUNet

    net = BasicUNet(dims, 1, 3, features=(4, 4, 8, 8, 16, 4))
    return net, torch.rand(2, 1, *[32] * dims), ["upcat_4", "upcat_3", "upcat_2", "upcat_1"]


def monai_dynunet(dims: int, supervised: int = 0) -> tuple[nn.Module, Tensor, list[str]]:
    from monai.networks.nets import DynUNet

    deep = {"deep_supervision": True, "deep_supr_num": supervised} if supervised else {}
    net = DynUNet(dims, 1, 3, [3] * 4, [1, 2, 2, 2], [2, 2, 2], filters=[4, 8, 8, 16], **deep)
    return net, torch.rand(2, 1, *[16] * dims), ["upsamples.0", "upsamples.1", "upsamples.2"]


def monai_segresnet(dims: int) -> tuple[nn.Module, Tensor, list[str]]:
    from monai.networks.nets import SegResNet

    return SegResNet(dims, 8, 1, 3), torch.rand(1, 1, *[16] * dims), ["up_layers.0", "up_layers.1", "up_layers.2"]


FAST = {
    "small-2d": small_unet_2d,
    "small-3d": small_unet_3d,
    **{f"unet-{d}d": lambda d=d: monai_unet(d) for d in (2, 3)},
    **{f"basic-{d}d": lambda d=d: monai_basic_unet(d) for d in (2, 3)},
    **{f"dynunet-{d}d": lambda d=d: monai_dynunet(d) for d in (2, 3)},
    **{f"dynunet-ds-{d}d": lambda d=d: monai_dynunet(d, 2) for d in (2, 3)},
    **{f"segresnet-{d}d": lambda d=d: monai_segresnet(d) for d in (2, 3)},
}
"""Name → function that returns a network, an example, and the modules whose outputs are its stages."""


def module_outputs(net: nn.Module, names: list[str], *inputs: Tensor) -> list[Tensor]:
    """What the named modules return, by hooks of the test's own."""
    seen: dict[str, Tensor] = {}
    hooks = [
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out.clone()}))
        for name in names
    ]
    net(*inputs)
    for hook in hooks:
        hook.remove()
    return [seen[name] for name in names]
