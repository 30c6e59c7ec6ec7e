"""A fourteenth list, of 30 November 2026, written blind: its second part, packages whose names begin with n to z."""

import sys

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x_rgb

add = adder("unseen-14")

CELLS = ["decoder4", "decoder3", "decoder2", "decoder1"]
add(
    "napari-unicell.UniCell",
    "napari-unicell",
    2,
    lambda: alone("napari_unicell.models.unicell_modules", "UniCell")(3, 3, img_size=64, feature_size=8),
    x_rgb,
    [*CELLS[:3], "transp_conv", "decoder1"],
    "U cells vit",
    ladders=[CELLS],
    notes="a transformer of four levels; one layer alone goes up to half the size, where no skip is; classes and a "
    "distance, from one map",
)


def nitid():
    return alone("dfine.nn.native_build", "build_native_model")("s", num_classes=2, task="semantic")


PANS = ["encoder.pan_blocks.1", "encoder.pan_blocks.0"]
MASKS = seq("decoder.mask_decoder.bn.{}", 2, 0, -1)
FUSED = ["decoder.mask_decoder.fusion_norm", "decoder.neck"]
add(
    "nitid.SemSegDecoder",
    "nitid",
    2,
    nitid,
    lambda: (rand(1, 3, 128, 128),),
    [*MASKS, *FUSED],
    "FPN scenes",
    ladders=[[*PANS, *FUSED], [*MASKS, FUSED[1]], [*PANS, FUSED[1]]],
    alts={2: ["decoder.mask_decoder.act"]},
    notes="a pyramid goes up and down again, its three levels are projected, resized and summed; a layer works on the "
    "sum, with an activation in place, then all is resized once more and worked on",
)


def tissue():
    net = alone("TMAx.model_resnet", "UNetResNet")
    make = named("torchvision.models", "resnet34")
    size = dict(INPUT_IMAGE_WIDTH=128, INPUT_IMAGE_HEIGHT=128)
    vars(sys.modules[net.__module__]).update(resnet34=lambda weights: make(), **size)
    return net()


add(
    "tmax.UNetResNet",
    "tmax",
    2,
    tissue,
    lambda: (rand(1, 3, 128, 128),),
    seq("decoder.blocks.{}", 3),
    "U tissue",
    notes="the decoder ends at a quarter; logits are resized to a fixed size, here that of the input",
)

VESSELS = ["block31.conv", "block22.conv", "block13.conv"]
add(
    "segmentation-quality-control.FR_UNet",
    "segmentation-quality-control",
    2,
    lambda: alone("segmentation_quality_control.models.frunet", "FR_UNet")(feature_scale=8),
    x_rgb,
    ["block40.conv", *VESSELS],
    "U nested vessels",
    ladders=[VESSELS],
    notes="a grid of blocks that work and then go up and down; the mean of five logits, all of full size; the block of "
    "the bottom does what the next does, but for the merge",
)


def control():
    loose("smartcontrol.config.model_parser", ModelConfig=object)
    return alone("smartcontrol.models.unet", "UNet")(1, 2, 4, 2)


add(
    "scontrol.UNet",
    "scontrol",
    2,
    control,
    lambda: (rand(1, 1, 140, 140),),
    seq("up_path.{}", 3),
    "U valid",
)


class Picks(nn.Module):
    """The package's network gives a cleaned signal and the chances of arrivals, by two decoders; here the latter."""

    def __init__(self):
        super().__init__()
        loose("lightning", LightningModule=nn.Module)
        self.net = alone("wavedp.wavedp", "PNet")(filters_root=4)

    def forward(self, x):
        return self.net(x)[1]


add(
    "wavedp.PNet",
    "wavedp",
    1,
    Picks,
    lambda: (rand(1, 3, 5700),),
    [*seq("in:net.up_branch2.{}.0", 1, 4), "in:net.out2"],
    "U multi quakes",
    notes="norms and layers called in the loop of forward(), activations by a function; four samples to one; a softmax",
)


def yucca(name, *args, **kw):
    return lambda: alone(f"yucca.modules.networks.networks.{name}", name)(*args, **kw)


add(
    "yucca.MedNeXt",
    "yucca",
    3,
    yucca("MedNeXt", 1, 2, nn.Conv3d, 4, [2] * 9, 3, block_counts=[2, 1, 1, 1, 1, 1, 1, 1, 2]),
    lambda: (rand(1, 1, 32, 32, 32),),
    ["dec_block_3.0", "dec_block_2.0", "dec_block_1.0", "dec_block_0.1"],
    "U",
    notes="skips are added by the parent, then blocks work; all blocks are called through checkpoints, so the lists "
    "around them never are",
)
add(
    "yucca.MultiResUNet",
    "yucca",
    2,
    yucca("MultiResUNet", 1, 2, 8),
    x2,
    seq("multiresblock{}", 6, 10),
    "U",
    notes="layers in a row, laid beside each other, and a way around; skips go through residual blocks",
)
add("yucca.TinyUNet", "yucca", 2, yucca("TinyUNet", 1, 2), x2, seq("decoder_conv{}", 1, 3))


def places(module, name):
    return alone(f"pygeovision.models.{module}", name)


def two_dates():
    return rand(1, 3, 64, 64), rand(1, 3, 64, 64)


add(
    "pygeovision.UNet",
    "pygeovision",
    2,
    lambda: places("segmentation.unet", "_build_simple_unet")(3, 2),
    lambda: (rand(1, 3, 32, 32),),
    seq("d{}", 4, 0, -1),
    notes="what the package builds where another library is missing",
)
add(
    "pygeovision.ChangeFormer",
    "pygeovision",
    2,
    lambda: places("change_detection.changeformer", "ChangeFormer")(2, 3, device="cpu").build(),
    two_dates,
    ["decoder.1", "decoder.3"],
    "U noskip changes multi-input",
    notes="two dates through one encoder, attention between them at the bottom; one layer and an activation for each "
    "level, and one more makes the logits",
)
DATES = [*seq("projections.{}", 3, 0, -1), "fuse"]
add(
    "pygeovision.DSAMNet",
    "pygeovision",
    2,
    lambda: places("change_detection.dsamnet", "DSAMNetModel")(pretrained=False),
    two_dates,
    DATES,
    "FPN changes multi-input",
    alts={i: [f"{path}#1"] for i, path in enumerate(DATES)},
    notes="two dates through all layers, each called twice; levels are projected, resized, laid beside and fused; the "
    "logits are made of the distance of the two fused maps, resized",
)


class Inspected(nn.Module):
    """The package's head, on the encoder whose widths are its defaults."""

    def __init__(self):
        super().__init__()
        for name in ("structures", "utils", "models", "models.utils"):
            loose(f"mmseg.{name}")
        loose("mmseg.models.builder", build_loss=lambda _: None)
        loose("mmseg.models.losses")
        self.encoder = named("torchvision.models", "resnet18")()
        self.head = alone("visaionlibrary.models.seg.hyh_unet_head", "HYHUNetHead")(prediction_channels=16)

    def forward(self, x):
        net = self.encoder
        maps = [net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))]
        for layer in (net.layer2, net.layer3, net.layer4):
            maps.append(layer(maps[-1]))
        return self.head(maps)


BLOCKS = seq("head.decoder_stages.{}.stage_list.0", 4)
add(
    "visaionlibrary.HYHUNetHead",
    "visaionlibrary",
    2,
    Inspected,
    x_rgb,
    [*BLOCKS, "head.final_conv"],
    "U inspection",
    ladders=[BLOCKS, [*BLOCKS[1:], "head.final_conv"]],
    notes="each stage of the decoder lays a skip beside, works and goes up, the coarsest too, without a skip; the last "
    "goes up to half the size, where a layer works before the one that makes the logits",
)
add(
    "pcfv.UNet",
    "pcfv",
    2,
    lambda: alone("pcfv.networks.UNet", "UNet")(1, 2, 8),
    x2,
    seq("conv_block{}", 6, 10),
    notes="one pooling layer for all levels; a fixed layer scales the logits",
)
add(
    "pytorchdl.UNet",
    "pytorchdl",
    2,
    lambda: alone("pytorchDL.networks.unet", "UNet")(1, 2),
    x2,
    seq("cn{}", 6, 10),
    notes="layers that go up end with an activation; one layer works on each level",
)
add(
    "rgb-to-segmentation.CNNDecoder",
    "rgb-to-segmentation",
    2,
    lambda: alone("rgb_to_segmentation.models.cnn_decoder", "CNNDecoder")(3, 8, 2),
    x_rgb,
    ["decoder.1", "decoder.3"],
    "U noskip",
    notes="one layer and an activation for each level, in one list, and one more makes the logits",
)
