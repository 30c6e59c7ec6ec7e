"""A fourth list, of 29 November 2026, written blind: medical and microscopy networks of packages not tried before."""

import functools
import sys
import types

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-4")


class Headed(nn.Module):
    """A network that returns features, what is taken of them, and a last layer."""

    def __init__(self, net, take, head):
        super().__init__()
        self.net, self.take, self.head = net, take, head

    def forward(self, *inputs):
        return self.head(self.take(self.net(*inputs)))


add(
    "rootpainter.UNetGNRes",
    "root-painter-trainer",
    2,
    lambda: alone("root_painter_trainer.unet", "UNetGNRes")(),
    lambda: (rand(1, 3, 116, 116),),
    seq("up{}", 1, 5),
    "U valid",
    notes="skips are cropped and added inside the blocks; the head ends with an activation and a norm",
)
add(
    "deepsea.DeepSeaSegmentation",
    "deepsea",
    2,
    lambda: alone("deepsea.model", "DeepSeaSegmentation")(1, 2),
    x2,
    ["res4", "res5"],
    "U heads",
    notes="the modules that go up only merge; two heads of one layer on one map",
)
add(
    "deepsea.DeepSeaTracker",
    "deepsea",
    2,
    lambda: alone("deepsea.model", "DeepSeaTracker")(1, 2),
    lambda: (rand(1, 1, 64, 64), rand(1, 1, 64, 64)),
    ["res5", "res6"],
    "U multi-input",
    notes="two images, each through a block of its own, are laid beside each other before the U",
)
add(
    "clinicadl.AttentionUNet-3D",
    "clinicadl",
    3,
    lambda: alone("clinicadl.networks.nn.att_unet", "AttentionUNet")(3, 1, 2, channels=(8, 16, 32, 64)),
    x3,
    seq("up{}", 3, 0, -1),
    notes="modules are got by name in forward()",
)
PLATELETS = ["c5_0", "c6_0", "c7_0", "c8_0.batch1"]
add(
    "platelets.UNet",
    "platelet-unet-watershed",
    3,
    lambda: alone("plateseg.unet", "UNet")(1, 5),
    lambda: (rand(1, 1, 10, 64, 64),),
    PLATELETS,
    alts={3: ["c8_0"]},
    notes="pooling pads, and what goes up is cropped; the last block makes the logits, then a sigmoid",
)
add(
    "platelets.UNet-forked",
    "platelet-unet-watershed",
    3,
    lambda: alone("plateseg.unet", "UNet")(1, (5, 1)),
    lambda: (rand(1, 1, 10, 64, 64),),
    PLATELETS,
    "U multi",
    alts={3: ["c8_0"]},
    notes="two decoders that share what goes up; their logits are laid beside each other",
)
add(
    "magms.UNet",
    "magms",
    3,
    lambda: alone("magnet.networks.unet.unet", "UNet")(1, 3, basic_dims=8),
    x3,
    seq("decoder.blocks.{}.2", 3),
    notes="blocks are lists of layers; the modules' __call__ is overridden",
)


def romiseg():
    made = types.SimpleNamespace(resnet101=lambda weights: named("torchvision.models", "resnet50")(weights=weights))
    made.ResNet101_Weights = types.SimpleNamespace(DEFAULT=None)
    make = alone("romiseg.models.unet", "ResNetUNet")
    sys.modules["romiseg.models.unet"].models = made
    return make(3)


add(
    "romiseg.ResNetUNet",
    "romiseg",
    2,
    romiseg,
    x_rgb,
    ["conv_up3", "conv_up2", "conv_up1", "conv_up0", "conv_original_size2"],
    notes="a skip of two convolutions at full size; all is written in forward()",
)


class Boxed(nn.Module):
    """A network that takes a dict and returns one."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(dict(data=x))["logits"]


add(
    "cxas.BackboneUNet",
    "cxas",
    2,
    lambda: Boxed(alone("cxas.models.UNet.backbone_unet", "BackboneUNet")("UNet_ResNet50", 3)),
    x_rgb,
    ["net.head.up1", "net.head.up2", "net.head.up4"],
    notes="two skips of one size at 1/4; parts of the head are called, not the head; the last map is enlarged first",
)


def piscis():
    encoder = alone("piscis.networks.efficientnetv2", "EfficientNetV2B0")
    return alone("piscis.networks.fpn", "FPN")(functools.partial(encoder), (0, 1, 2, 3), 1, 3)


add(
    "piscis.FPN",
    "piscis",
    2,
    piscis,
    x2,
    [*seq("decoder.up_blocks.{}", 3), "decoder"],
    "FPN",
    notes="a block adds its level's map, also on the coarsest; all levels are brought to one size by blocks and added",
)


def cellvit():
    loose("cellvit.models.cell_segmentation.postprocessing")
    make = alone("cellvit.models.cell_segmentation.cellvit", "CellViT")
    return make(2, 3, embed_dim=48, input_channels=3, depth=4, num_heads=4, extract_layers=[1, 2, 3, 4])


BRANCH = "nuclei_binary_map_decoder."
add(
    "cellvit.CellViT",
    "cellvit",
    2,
    cellvit,
    x_rgb,
    [
        BRANCH + name
        for name in ("decoder3_upsampler.2", "decoder2_upsampler.1", "decoder1_upsampler.1", "decoder0_header.1")
    ],
    "U vit multi",
    notes="three decoders of one kind on shared skips; blocks end by going up; a dict that begins with a class",
)


def cnnectome(dims, **more):
    loose("dacapo.experiments.architectures.architecture")
    loose("funlib.geometry")
    make = alone("dacapo.experiments.architectures.cnnectome_unet", "CNNectomeUNetModule")
    net = make(1, 8, 2, [(2,) * dims] * 2, num_fmaps_out=8, **more)
    return nn.Sequential(net, (nn.Conv2d if dims == 2 else nn.Conv3d)(8, 3, 1))


add(
    "dacapo.CNNectomeUNet-valid",
    "dacapo-ml",
    2,
    lambda: cnnectome(2),
    lambda: (rand(1, 1, 92, 92),),
    ["0.r_conv.0.1", "0.r_conv.0.0"],
    "U valid",
    notes="forward() calls itself; what goes up is cropped, and so is the skip",
)
add(
    "dacapo.CNNectomeUNet-3D-attention",
    "dacapo-ml",
    3,
    lambda: cnnectome(3, padding="same", use_attention=True, constant_upsample=True, upsample_channel_contraction=True),
    x3,
    ["0.r_conv.0.1", "0.r_conv.0.0"],
    notes="forward() calls itself; gates of one channel on the skips",
)


def omnipose():
    loose("omnipose.gpu")
    make = alone("cellpose_omni.resnet_torch", "CPnet")
    return make([2, 8, 16, 32, 64], 4, 3)


add(
    "omnipose.CPnet",
    "omnipose",
    2,
    omnipose,
    lambda: (rand(1, 2, 64, 64),),
    seq("upsample.up.res_up_{}", 3, -1, -1),
    notes="blocks add a map of the encoder, on the coarsest level too; a style; blocks begin with a norm",
)


def stunet():
    for name in ("_registry", "_pretrain"):
        loose("medim.models." + name, register_model=lambda _: lambda made: made)
    make = alone("medim.models.stu_net", "STUNet")
    return make(1, 3, [1] * 4, [8, 16, 32, 64], [[2, 2, 2]] * 3, [[3, 3, 3]] * 4)


add(
    "medim.STUNet",
    "medim",
    3,
    stunet,
    x3,
    seq("conv_blocks_localization.{}", 3),
    "U DS",
    notes="logits are made of all levels, but only the last returned",
)


def medimm():
    loose("huggingface_hub")
    kind = alone("medimm.models.unet_3d", "UNet3dConfig")
    config = kind(hidden_channels=(8, 16, 32, 64), depths=(1, 1, 1, 1), num_attn_heads=4, time_embed_dim=32)
    net = named("medimm.models.unet_3d", "UNet3d")(config)
    return Headed(net, lambda out: out.feature_pyramid[0], nn.Conv3d(8, 3, 1))


add(
    "medimm.UNet3d",
    "medimm",
    3,
    medimm,
    x3,
    seq("net.decoder_stages.{}", 2, -1, -1),
    notes="a pyramid is returned, of which the finest has a head; a time embedding of a constant",
)


def samitorch():
    loose("samitorch.configs.configurations")
    layers = alone("samitorch.models.layers", "PoolingLayers")
    act = named("samitorch.models.layers", "ActivationLayers")
    make = alone("samitorch.models.unet3d", "UNet3D")
    return make(16, 1, 3, 3, 3, 2, layers.MaxPool3d, 8, None, act.ReLU, True, (2, 2, 2))


add(
    "samitorch.UNet3D",
    "samitorch",
    3,
    samitorch,
    x3,
    seq("_decoders.{}._basic_module", 2),
    notes="the blocks' forward is called, not the blocks",
)
add(
    "keymorph.TruncatedUNet3D",
    "keymorph",
    3,
    lambda: alone("keymorph.unet3d.model", "TruncatedUNet3D")(1, 3, 1, f_maps=16),
    x3,
    seq("decoders.{}", 2),
    "U halfway",
    notes="the output has half the size of the input",
)
add(
    "aydin.ResidualUNet-3D",
    "aydin",
    3,
    lambda: alone("aydin.nn.models.res_unet", "ResidualUNetModel")(3, 3),
    x3,
    seq("double_conv_blocks_decoder.{}", 3),
    "U denoise",
    notes="skips are added before each block; one module goes up on all levels",
)
add(
    "aydin.LinearScalingUNet",
    "aydin",
    2,
    lambda: alone("aydin.nn.models.linear_scaling_unet", "LinearScalingUNetModel")(2),
    x2,
    seq("double_conv_blocks_decoder.{}", 4),
    "U denoise",
)
add(
    "dival.UNet",
    "dival",
    2,
    lambda: alone("dival.reconstructors.networks.unet", "get_unet_model")(scales=4),
    x2,
    seq("up.{}", 3),
    "U restoration",
    notes="narrow skips; a block begins with a norm; a sigmoid",
)
PSMT = "pytorch_segmentation_models_trainer.custom_models.unet"
add(
    "psmt.UNetBackbone",
    "pytorch-segmentation-models-trainer",
    2,
    lambda: Headed(alone(PSMT, "UNetBackbone")(3, 8), lambda out: out["out"], nn.Conv2d(8, 3, 1)),
    x_rgb,
    seq("net.up{}.conv.conv", 1, 5),
    notes="the blocks' forward is called, not the blocks; a dict, of which a head takes the only map",
)
HOLOCRON = "holocron.models.segmentation."


def holocron(file, name, *args, **more):
    loose("holocron.models.classification.rexnet")
    loose("huggingface_hub")
    return alone(HOLOCRON + file, name)(*args, **more)


def dynamic():
    features = holocron("unet", "UNetBackbone", [8, 16, 32, 64]).features
    getter = named("torchvision.models._utils", "IntermediateLayerGetter")
    return holocron(
        "unet", "DynamicUNet", getter(features, {str(i): str(i) for i in range(4)}), 3, input_shape=(3, 64, 64)
    )


add(
    "holocron.UNet",
    "pylocron",
    2,
    lambda: holocron("unet", "UNet", [8, 16, 32, 64], num_classes=3),
    x_rgb,
    seq("decoder.{}", 4),
)
add(
    "holocron.DynamicUNet",
    "pylocron",
    2,
    dynamic,
    x_rgb,
    seq("decoder.{}", 4),
    notes="goes up at the bottleneck and is brought back before it merges; pixel shuffle; one activation for all",
)
add(
    "holocron.UNet3p",
    "pylocron",
    2,
    lambda: holocron("unet3p", "UNet3p", [8, 16, 32, 64], num_classes=3),
    x_rgb,
    seq("decoder.{}", 2, -1, -1),
    "U full-scale",
)
add(
    "holocron.UNetpp",
    "pylocron",
    2,
    lambda: holocron("unetpp", "UNetpp", [8, 16, 32, 64], num_classes=3),
    x_rgb,
    seq("decoder.{0}.{0}", 4),
    "U nested",
)
