"""A fourteenth list, of 30 November 2026, written blind: networks made for segmentation, of packages not tried yet."""

import importlib.util

from torch import nn

from published.base import adder, alone, loose, seq, x2, x3, x_rgb

add = adder("unseen-14")


def bare(package, **names):
    """Stands for the package itself, which imports more than the network needs; its modules are found all the same."""
    places = list(importlib.util.find_spec(package).submodule_search_locations)
    loose(package, __path__=places, **names)


add(
    "advseglearn.Unet",
    "advseglearn",
    2,
    lambda: alone("advseglearn.unet", "Unet")(initial_features=4),
    x2,
    [f"decoder_layers.{i}" for i in (4, 9, 14, 19)],
    notes="one flat list of layers; a skip is cut to its own size; a sigmoid",
)
add(
    "ct-leg-bone-split-patch.UNet",
    "ct-leg-bone-split-patch",
    2,
    lambda: alone("ct_leg_bone_split_patch.unet", "UNet")(),
    x2,
    seq("up{}", 1, 5),
    "U bones",
)


def delira(dims):
    bare("delira", get_backends=lambda: ("TORCH",))
    loose("delira.utils.decorators", make_deprecated=lambda _: lambda made: made)
    return alone("delira.models.segmentation.unet", f"UNet{dims}dPyTorch")(2, 1, 4, 4)


for dims, inputs in ((2, x2), (3, x3)):
    add(
        f"delira.UNet{dims}dPyTorch",
        "delira",
        dims,
        lambda dims=dims: delira(dims),
        inputs,
        seq("up_convs.{}", 3),
        notes="a table with the logits",
    )


def fusion(module, name, *args):
    bare("fusionlab", BACKEND={"torch": True, "tf": False})
    return alone(f"fusionlab.segmentation.{module}", name)(*args)


add(
    "fusionlab.SegFormer",
    "fusionlab",
    2,
    lambda: fusion("segformer.segformer", "SegFormer", 4),
    x_rgb,
    [*seq("decode_head.linear_c{}", 4, 1, -1), "decode_head.linear_fuse"],
    "FPN vit",
    notes="projected levels",
)
add(
    "fusionlab.UNet",
    "fusionlab",
    2,
    lambda: fusion("unet.unet", "UNet", 1, 2, 4),
    x2,
    seq("decoder.d{}", 4, 0, -1),
)
add(
    "fusionlab.UNet2plus",
    "fusionlab",
    2,
    lambda: fusion("unet2plus.unet2plus", "UNet2plus", 1, 2, 4),
    x2,
    ["decoder.conv3_1", "decoder.conv2_2", "decoder.conv1_3", "decoder.conv0_4"],
    "U nested",
)


def herbarium():
    loose("cv2")
    loose("pycocotools")
    return alone("gwel.networks.UNET", "UNet")(3, 2)


add(
    "gwel.UNet",
    "gwel",
    2,
    herbarium,
    x_rgb,
    seq("decoder{}", 4, 0, -1),
    alts={3: ["decoder1.0"]},
    notes="skips are the pooled maps and are added by the parent; the last block goes up and makes the logits, as the "
    "others make theirs, but without activations",
)
add(
    "lst-ai.NNUNet3D",
    "lst-ai",
    3,
    lambda: alone("lst_ai.model", "NNUNet3D")(1, 4, 4, ds_layers=(-2, -3)),
    x3,
    seq("dec_conv.{}", 4),
    "U DS lesions",
    notes="a sigmoid on each",
)


class Glioma(nn.Module):
    """The package's network gives a table, of which one entry is a mask, smaller than the image."""

    def __init__(self):
        super().__init__()
        self.net = alone("gliomamatch.models.net", "GliomaNet")(base=4)

    def forward(self, x):
        return self.net(x)["seg_logits"]


GLIOMA = ["net.seg_decs.0.4", "net.seg_decs.0.6"]
add(
    "minimal-seg3d.GliomaNet",
    "minimal-seg3d",
    3,
    Glioma,
    x3,
    GLIOMA,
    "U noskip glioma",
    ladders=[["net.seg_decs.0.2", *GLIOMA]],
    notes="what the encoder makes is pooled to one position, and a small cube is made of it; one layer goes up to each "
    "level",
)


def seismic(module, name, *args, **kw):
    loose("lightning", LightningModule=nn.Module)
    loose("lightning.pytorch", LightningModule=nn.Module)
    loose("minerva.models.loaders", LoadableModule=nn.Module)
    return alone(f"minerva.models.nets.image.{module}", name)(*args, **kw)


def setr():
    size = dict(img_size=(64, 64), embed_dims=16, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3))
    decoder = dict(decoder_channels=8, decoder_norm_type=nn.BatchNorm2d)
    return seismic("setr", "SETR_PUP", **size, **decoder)


add(
    "minerva-ml.SETR_PUP",
    "minerva-ml",
    2,
    setr,
    x_rgb,
    seq("fc.up_convs.{}.0", 4),
    "U noskip DS vit seismic",
    notes="each block works and goes up, the last one to the logits; more heads on other layers of the encoder",
)
add(
    "minerva-ml.UNetPlusPlusDeepLabV3",
    "minerva-ml",
    2,
    lambda: seismic("unetplusplus_resnet50", "UNetPlusPlusDeepLabV3", num_classes=4, pretrained=False),
    x_rgb,
    ["conv1_2", "conv0_3"],
    "U nested DS seismic",
    notes="three of the four levels are of one size; logits of each column on the finest",
)
