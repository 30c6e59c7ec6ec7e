"""What the fourth list shares: its networks start from He's weights, so that no map fades and two can be told apart."""

from torch import nn

from support.families import base


def family(*args, **options):
    """As `families.base.family`."""

    def put(cls):
        base.family(*args, **options)(cls)
        build = base.FAMILIES[-1]["build"]
        base.FAMILIES[-1]["build"] = lambda: started(build())
        return cls

    return put


def started(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model
