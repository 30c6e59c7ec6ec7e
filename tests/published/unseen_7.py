"""A seventh list, of 30 November 2026, written blind: medical and microscopy networks of packages not tried before."""

import io

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-7")

BIFPN = seq("semantic_decoder.upsamplings.{}", 4)
add(
    "empanada.PanopticBiFPN",
    "empanada-dl",
    2,
    lambda: named("empanada.models.panoptic_bifpn", "PanopticBiFPN")("resnet18", 3, 16, 2),
    lambda: (rand(1, 1, 256, 256),),
    ["semantic_fpn.bifpns.1.bottom_up_fpn.after_combines.0#3", *BIFPN, "semantic_decoder.fusion"],
    "FPN cells DS",
    alts={5: ["semantic_head.head.0"]},
    notes="goes up and down twice, then up; blocks go up and a level is laid beside each; one block called four times",
)


def panoptic():
    net = named("empanada.models.panoptic_deeplab", "PanopticDeepLab")("resnet50", 3, decoder_channels=32)
    for layer in net.modules():  # they begin at nearly nought
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    return net


add(
    "empanada.PanopticDeepLab",
    "empanada-dl",
    2,
    panoptic,
    lambda: (rand(1, 1, 128, 128),),
    seq("semantic_decoder.fuse.{}", 3),
    "U cells DS",
    alts={2: ["semantic_head.head.0"]},
    notes="ASPP; the first skip is of the same size as the coarsest map; centres and offsets beside the logits",
)
DC = seq("dc{}", 3, 0, -1)
add(
    "aicsmlsegment.unet_xy",
    "aicsmlsegment",
    3,
    lambda: alone("aicsmlsegment.Net3D.unet_xy", "UNet3D")(1, [2, 2, 2]),
    lambda: (rand(1, 1, 30, 100, 100),),
    DC,
    "U valid DS",
    notes="own logits of the coarser levels too; classes last, all positions in one axis; skips are cropped",
)
add(
    "aicsmlsegment.uNet_original",
    "aicsmlsegment",
    3,
    lambda: alone("aicsmlsegment.Net3D.uNet_original", "UNet3D")(1, 2, False),
    lambda: (rand(1, 1, 92, 92, 92),),
    DC,
    "U valid",
    notes="classes last, all positions in one axis; skips are cropped",
)
add(
    "aicsmlsegment.unet_xy_enlarge",
    "aicsmlsegment",
    3,
    lambda: alone("aicsmlsegment.Net3D.unet_xy_enlarge", "UNet3D")(1, [2, 2, 2], 2),
    lambda: (rand(1, 1, 36, 200, 200),),
    [*DC, "dc0"],
    "U valid DS",
    notes="pools the volume before; a level without a skip after the last; classes last",
)


def eisen(where, name, **more):
    return alone(f"eisen.models.segmentation.{where}", name)(1, 3, 8, **more)


add(
    "eisen.UNet",
    "eisen-core",
    2,
    lambda: eisen("unet", "UNet", normalization="batchnorm"),
    lambda: (rand(1, 1, 72, 56),),
    seq("up{}", 1, 5),
    notes="what comes up is padded where sizes are odd; a sigmoid",
)
add(
    "eisen.UNet3D",
    "eisen-core",
    3,
    lambda: eisen("unet3D", "UNet3D"),
    lambda: (rand(1, 1, 64, 64, 64),),
    seq("up_{}", 1, 6),
    notes="blocks end without an activation; a norm of the package's own; the logits have an activation and a sigmoid",
)
add(
    "eisen.VNet",
    "eisen-core",
    3,
    lambda: eisen("vnet", "VNet", normalization="batchnorm"),
    x3,
    [f"block_{name}" for name in ("six", "seven", "eight", "nine")],
    notes="residual blocks, of one kind down and up; the parent adds skips",
)
add(
    "pathflowai.unet-UNet",
    "pathflowai",
    2,
    lambda: alone("pathflowai.unet", "UNet")(3, 4),
    x_rgb,
    seq("up{}", 1, 5),
)
add(
    "pathflowai.unet3-UNet",
    "pathflowai",
    2,
    lambda: alone("pathflowai.unet3", "UNet")(3, 4, 4, 3, padding=False, batch_norm=True, up_mode="upsample"),
    lambda: (rand(1, 3, 124, 124),),
    seq("up_path.{}", 3),
    "U valid",
    notes="norms after activations; skips are cropped",
)
add(
    "pathflowai.unet4-UNet",
    "pathflowai",
    2,
    lambda: alone("pathflowai.unet4", "UNet")(3, 4),
    x_rgb,
    seq("upconv{}", 1, 5),
    notes="a block goes up and merges, another works; a layer that is never called",
)
COUPLED = [f"decoder_modules.{i}.2" for i in (2, 1, 0)]
add(
    "iunets.iUNet",
    "iunets",
    2,
    lambda: alone("iunets.networks", "iUNet")(4, [2, 2, 2, 2], 2),
    lambda: (rand(1, 4, 64, 64),),
    COUPLED,
    "U invertible",
    ladders=[["decoder_modules.3.1", *COUPLED]],
    notes="couplings; learned orthogonal layers go down and up; half of the channels are split off as skips; no head",
)


def standard():
    net = alone("iunets.baseline_networks", "StandardUNet")(2, 3, base_filters=4, skip_connection=True, zero_init=True)
    for layer in net.modules():  # they begin at nought
        if isinstance(layer, nn.GroupNorm):
            nn.init.uniform_(layer.weight, 0.5, 1)
    return net


add(
    "iunets.StandardUNet",
    "iunets",
    3,
    standard,
    lambda: (rand(1, 2, 32, 32, 32),),
    seq("module_R.{}.1", 2, -1, -1),
    "U denoise",
    notes="the image is added to the output",
)


def tissue(file, name):
    net = alone("deeptissueunet." + file, name)(8)
    nn.init.ones_(net.decode9[1].bias)  # its activation gives nought everywhere with some weights
    return net


DECODED = seq("decode{}", 2, 9, 2)
add(
    "deeptissueunet.Siam_UNet",
    "deeptissueunet",
    2,
    lambda: tissue("siam_package.siam_unet", "Siam_UNet"),
    lambda: (rand(1, 1, 64, 64), rand(1, 1, 64, 64)),
    DECODED,
    "U siamese multi-input",
    alts={3: ["decode9"]},
    notes="two encoders that meet at the bottom; one pooling is called six times; a layer more makes a channel",
)
add(
    "deeptissueunet.Unet",
    "deeptissueunet",
    2,
    lambda: tissue("package.unet", "Unet"),
    x2,
    DECODED,
    alts={3: ["decode9"]},
    notes="the last layer before the head makes one channel; probabilities first, then the logits",
)
PLUS = [f"up_concat{i}{4 - i}" for i in (3, 2, 1, 0)]
add(
    "deeptissueunet.UNet_2Plus",
    "deeptissueunet",
    2,
    lambda: alone("deeptissueunet.package.Unet_2plus.UNet_2Plus", "UNet_2Plus")(4),
    x2,
    PLUS,
    "U nested",
    notes="logits of all columns are made and all but the last left; probabilities first",
)


def cotr():
    return alone("segforge.networks.cotr.ResTranUnet", "ResTranUnet")(num_classes=3, deep_supervision=True)


add(
    "segforge.CoTr",
    "segforge",
    3,
    cotr,
    lambda: (rand(1, 1, 16, 64, 64),),
    seq("U_ResTran3D.stage{}_de", 2, -1, -1),
    "U vit DS",
    notes="two levels lie in one sequence of tokens, and the finer one is a skip; the last map goes up before the head",
)


def nnformer():
    make = alone("segforge.networks.nnformer.nnformer", "nnFormer")
    strides = [[1, 4, 4], [1, 8, 8], [2, 16, 16], [4, 32, 32]]
    more = dict(patch_size=[1, 4, 4], depths=[1] * 4, window_size=[4] * 4, down_stride=strides)
    return make([16, 128, 128], 24, 1, 3, num_heads=[2, 2, 4, 8], **more)


add(
    "segforge.nnFormer",
    "segforge",
    3,
    nnformer,
    lambda: (rand(1, 1, 16, 128, 128),),
    seq("decoder.layers.{}", 2, -1, -1),
    "U vit DS",
    notes="blocks of tokens take what comes up and the skip; a layer goes up and makes the logits of each level",
)
UNEXT = [*seq("dbn{}", 1, 5), "decoder5"]
AFTER = [*seq("in:decoder{}", 2, 6), "in:final"]
add(
    "segforge.UNext",
    "segforge",
    2,
    lambda: alone("segforge.networks.unext.unext", "UNext")(3, 1, "small"),
    x2,
    UNEXT,
    "U vit",
    ladders=[UNEXT[1:], [*UNEXT, "in:final"], [*UNEXT[1:], "in:final"], AFTER],
    notes="a layer works and then goes up, then an activation and the sum; shifted tokens on the two coarsest levels",
)


def carti(file, name, **more):
    loose("batchgenerators.augmentations.utils")
    loose("CartiMorph_nnUNet.training.loss_functions.dice_loss")
    loose("scipy.ndimage.filters")
    where = "CartiMorph_nnUNet.network_architecture."
    props = alone(where + "generic_modular_UNet", "get_default_network_config")(3, None, norm_type="in")
    strides, kernels = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]], [[1, 3, 3], *[[3, 3, 3]] * 3]
    made = (1, 8, [1, 2, 2, 2], 2, strides, kernels, props, 3, [1, 2, 1])
    return alone(where + file, name)(*made, **more)


CARTI = seq("decoder.stages.{}", 3)
add(
    "cartimorph.ResidualUNet",
    "cartimorph-nnunet",
    3,
    lambda: carti("generic_modular_residual_UNet", "ResidualUNet", deep_supervision=True),
    lambda: (rand(1, 1, 16, 32, 32),),
    CARTI,
    "U DS",
    notes="residual blocks; own logits of each level but the coarsest; the first level shrinks two axes only",
)
add(
    "cartimorph.PlainConvUNet",
    "cartimorph-nnunet",
    3,
    lambda: carti("generic_modular_UNet", "PlainConvUNet"),
    lambda: (rand(1, 1, 16, 32, 32),),
    CARTI,
)


def generic():
    make = alone("CartiMorph_nnUNet.network_architecture.generic_UNet", "Generic_UNet")
    return make(1, 8, 3, 3, deep_supervision=False, convolutional_upsampling=False, convolutional_pooling=False)


def carti_generic():
    carti("generic_modular_UNet", "PlainConvUNet")
    return generic()


add(
    "cartimorph.Generic_UNet",
    "cartimorph-nnunet",
    2,
    carti_generic,
    x2,
    seq("conv_blocks_localization.{}", 3),
    "U DS",
    notes="plain upsampling; the last layer of a level makes the channels of the next; all logits are made",
)


def kept():
    """A file of no weights at all, for networks that read some."""
    file = io.BytesIO()
    torch.save({}, file)
    file.seek(0)
    return file


CAFE = ["in:out4", *seq("CADM{}", 3, 0, -1), "MFA"]
add(
    "seg-lib.CAFE",
    "seg-lib",
    2,
    lambda: alone("seg_lib.models.cafe_net.pvt", "CAFE")(kept()),
    lambda: (rand(1, 3, 64, 64),),
    CAFE,
    "U polyps vit DS",
    notes="blocks work, go up and multiply by the skip; own logits of all levels, the coarsest too; then a fusion",
)
add(
    "seg-lib.SegPVT",
    "seg-lib",
    2,
    lambda: alone("seg_lib.models.pvt_v2.pvt_v2_seg", "SegPVT")(kept()),
    x_rgb,
    ["CFM.conv_concat2", "SAM"],
    "U polyps vit DS",
    alts={1: ["CFM"]},
    notes="a partial decoder multiplies levels and lays them beside each other; two logits of one size",
)
