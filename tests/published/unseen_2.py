"""A list of 29 November 2026, written blind: medical and microscopy networks of packages not tried before."""

import importlib.util

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-2")
add(
    "abdomenatlas.UNet3D",
    "abdomenatlas",
    3,
    lambda: alone("AbdomenAtlas.model.Unet", "UNet3D")(),
    lambda: (rand(1, 1, 16, 16, 16),),
    ["up_tr256", "up_tr128", "up_tr64"],
    notes="returns the bottleneck and the finest map; no logits; keeps its maps as attributes",
)
add(
    "dv_extractor.DynamicUNet",
    "color-doppler-volume-sample-extractor",
    2,
    lambda: alone("dv_extractor.model", "DynamicUNet")(1, 3, 4, 8),
    x2,
    seq("decoders.{}", 4),
)
add(
    "ct_seg.UNetSegmentation",
    "ct-segmentation-toolkit",
    2,
    lambda: alone("ct_seg.model", "UNetSegmentation")(1, 4, 8),
    x2,
    seq("dec{}", 4, 0, -1),
)
add(
    "ct_seg.unet_ns_gn",
    "ct-segmentation-toolkit",
    2,
    lambda: alone("ct_seg.denoise.model", "unet_ns_gn")(8, 5, 1),
    lambda: (rand(1, 5, 64, 64),),
    ["box4", "box5", "box6"],
    "U noskip denoise",
    alts={2: ["out_layer.2"]},
    notes="no skips; the head has two convolutions",
)


class Volume(nn.Module):
    """A network that is called with a batch of its package's own; its layers are called with a tensor here."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.forward_volume(x)


class Plain(nn.Module):
    """A network's base without what trains it."""

    def __init__(self, **_ignored):
        super().__init__()


def cryovit():
    loose("cryovit.types")
    loose("cryovit.models.base_model", BaseModel=Plain)
    return Volume(alone("cryovit.models.unet3d", "UNet3D")())


add(
    "cryovit.UNet3D",
    "cryovit",
    3,
    cryovit,
    lambda: (rand(1, 1, 16, 16, 16),),
    [f"net.synthesis_layers.{i}.layers.5" for i in range(3)],
    notes="the blocks are not called, but their layers one by one",
)


def deepali(name):
    loose("ruamel.yaml")
    return named("deepali.networks.unet", name)


add(
    "deepali.UNet-3D",
    "hf-deepali",
    3,
    lambda: deepali("UNet")(3, 1, 3),
    x3,
    seq("decoder.stages.stage_{}.blocks", 2, 5),
)


def deepali_residual():
    encoder = deepali("UNetEncoderConfig")(num_channels=(8, 16, 32), residual=True)
    decoder = deepali("UNetDecoderConfig").from_encoder(encoder, upsample_mode="interpolate")
    return deepali("SequentialUNet")(2, 1, 4, deepali("UNetConfig")(encoder, decoder))


add(
    "deepali.SequentialUNet-residual",
    "hf-deepali",
    2,
    deepali_residual,
    x2,
    seq("decoder.stages.stage_{}.blocks", 2, 4),
    alts={0: ["decoder.stages.stage_3.upsample.preconv"]},
    notes="the upsampling layer begins with a convolution of its own",
)
add(
    "iterseg.UNet",
    "iterseg",
    3,
    lambda: alone("iterseg.unet", "UNet")(1, 5),
    lambda: (rand(1, 1, 4, 64, 64),),
    ["c5_0", "c6_0", "c7_0", "c8_0"],
    notes="pooled with padding, so each level is cropped after going up; the last block makes probabilities",
)
add(
    "maby.UNet",
    "maby",
    2,
    lambda: alone("maby.model", "UNet")(1, 3, 8),
    x2,
    seq("decoder.{}", 4),
)
add(
    "ldctbench.UNet-discriminator",
    "ldct-benchmark",
    2,
    lambda: alone("ldctbench.methods.dugan.network", "UNet")(3, conv_dim=16),
    x2,
    seq("up_blocks.{}", 3),
    notes="returns one number of the bottleneck first, then the map",
)
add(
    "ldctbench.REDCNN",
    "ldct-benchmark",
    2,
    lambda: alone("ldctbench.methods.redcnn.network", "Model")(None, 16),
    x2,
    ["in:tconv5"],
    "nonU valid",
    notes="valid convolutions and their transposes, no resampling",
)
add(
    "mouse_pupil.UNet-attention",
    "mouse-pupil-analysis",
    2,
    lambda: alone("mouse_pupil_analysis.unet", "UNet")(1, 2, True),
    x2,
    ["conv1", "conv2"],
)
NAGINI = dict(padding_mode="zeros", train_bn=False, inner_normalisation="InstanceNorm", bilinear=False)
add(
    "nagini3D.Unet3D_3D",
    "nagini3d",
    3,
    lambda: alone("nagini3D.models.unet.u3D_3D", "Unet3D_3D")(
        num_classes=3, input_channels=1, num_layers=4, features_start=8, **NAGINI
    ),
    x3,
    [f"layers.level_{i}.convr" for i in (2, 1, 0)],
    notes="levels are modules of which two methods are called; the hidden maps are returned too",
)
add(
    "napari_deepmeta.Unet3plus",
    "napari-deepmeta",
    2,
    lambda: alone("napari_deepmeta.models", "Unet3plus")(8),
    x2,
    seq("up{}", 1, 5),
    "U full-scale",
)
add(
    "neuroimaging_models.UNet3D",
    "neuroimaging",
    3,
    lambda: alone("neuroimaging_models.unet3d", "UNet3D")(1, 3, [8, 16, 32], 64),
    x3,
    ["up3", "up2", "up1.block"],
)


def tissue():
    loose("cornucopia")
    return alone("oct_tissuemasking.models", "ScaledUNet")(1, 2, 4)


add(
    "oct_tissuemasking.ScaledUNet",
    "oct-tissuemasking",
    3,
    tissue,
    x3,
    seq("up{}", 1, 5),
    notes="dropout modules are made in forward",
)
add(
    "pcm_spaghetti.GeneratorResNet",
    "pcm-spaghetti",
    2,
    lambda: alone("spaghetti._spaghetti_modules", "GeneratorResNet")(3, 2),
    x_rgb,
    ["up.3", "up.7"],
    "U noskip gan",
)


def relaynet():
    params = dict(num_channels=1, num_filters=64, kernel_h=7, kernel_w=3, kernel_c=1, stride_conv=1)
    return alone("relaynet_pytorch.relay_net", "ReLayNet")(params | dict(pool=2, stride_pool=2, num_class=4))


add(
    "relaynet.ReLayNet",
    "relaynet-pytorch",
    2,
    relaynet,
    x2,
    seq("decode{}.prelu", 1, 4),
    notes="unpooling by indices; the blocks' forward is called, not the blocks",
)
add(
    "seg2link.UNet2",
    "seg2link-unet2d",
    2,
    lambda: alone("seg2link_unet2d.unet2", "UNet2")(),
    x2,
    seq("up{}", 1, 4),
)
add(
    "instanseg.InstanSeg_UNet",
    "instanseg-torch",
    2,
    lambda: alone("instanseg.utils.models.InstanSeg_UNet", "InstanSeg_UNet")(3, [[2, 2, 1]], [64, 32, 16, 8]),
    x_rgb,
    seq("decoders.0.decoder.{}", 3),
    notes="the skip is added inside a residual block; three heads laid beside each other",
)
add(
    "instanseg.InstanSeg_UNet-two",
    "instanseg-torch",
    2,
    lambda: alone("instanseg.utils.models.InstanSeg_UNet", "InstanSeg_UNet")(3, [[2, 1], [2, 1]], [64, 32, 16, 8]),
    x_rgb,
    seq("decoders.0.decoder.{}", 3),
    "U multi",
    notes="two decoders, whose outputs are laid beside each other",
)
DENOISED = ["dec5", "dec4", "dec3", "dec2", "dec1"]
add(
    "topaz.UDenoiseNet",
    "topaz-em",
    2,
    lambda: alone("topaz.denoising.models", "UDenoiseNet")(8),
    x2,
    DENOISED,
    "U denoise",
    alts={4: ["dec1.3"]},
    notes="the last block makes the output",
)
add(
    "topaz.UDenoiseNet3D",
    "topaz-em",
    3,
    lambda: alone("topaz.denoising.models", "UDenoiseNet3D")(4, 7),
    x3,
    DENOISED,
    "U denoise",
    alts={4: ["dec1.3"]},
)
add(
    "unet_lungs.UNet",
    "unet-lungs-segmentation",
    3,
    lambda: alone("unet_lungs_segmentation.model", "UNet")(1, 1),
    lambda: (rand(1, 1, 16, 16, 16),),
    seq("dec{}", 1, 5),
)
add(
    "icon.UNet2",
    "icon-registration",
    2,
    lambda: alone("icon_registration.networks", "tallUNet2")(dimension=2),
    lambda: (rand(1, 1, 64, 64), rand(1, 1, 64, 64)),
    [*seq("batchNorms.{}", 4, 0, -1), "in:lastConv"],
    "U registration",
    alts={4: ["batchNorms.0"]},
    notes="a skip is laid beside each level, and both go up at once; the last layer begins at nought",
)


def landmarks(file, name, *given, **more):
    return alone("landmarker.models." + file, name)(*given, **more)


add(
    "landmarker.Hourglass",
    "landmarker",
    2,
    lambda: landmarks("hourglass", "Hourglass", 2, 1, 4, [8, 16, 16, 16]),
    x2,
    seq("up_blocks.{}.0", 3, -1, -1),
    ladders=[[*seq("up_blocks.{}.0", 3, -1, -1), "last_layer.0"], [*seq("up_blocks.{}.0", 3, -1, -1), "last_layer"]],
    notes="skips are added before each block, at the bottleneck too; at full size there is only the head",
)
add(
    "landmarker.SCN",
    "landmarker",
    2,
    lambda: landmarks("spatial_configuration_net", "OriginalSpatialConfigurationNet", 1, 4, 16, la_depth=3),
    x2,
    ["up_layers.0", "up_layers.1", ""],
    "U heatmaps",
    alts={2: ["up_layers.2"]},
    notes="logits multiplied by a coarse map of themselves; only the product is returned",
)


class Heatmaps(nn.Module):
    """A backbone that returns a dict of its decoder's maps, and a head on the finest."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.head = backbone, nn.Conv2d(backbone.final_dec_channels, 5, 1)

    def forward(self, x):
        return self.head(self.backbone(x)["outputs"][-1])


def sleap():
    loose("omegaconf")
    make = alone("sleap_nn.architectures.unet", "UNet")
    return Heatmaps(make(output_stride=2, filters=8, down_blocks=3, up_blocks=2))


add(
    "sleap_nn.UNet",
    "sleap-nn",
    2,
    sleap,
    x2,
    seq("backbone.decoders.0.decoder_stack.{}", 2),
    notes="the finest level is at half size",
)


def tiatoolbox(file, name, *given):
    loose("tiatoolbox", __path__=list(importlib.util.find_spec("tiatoolbox").submodule_search_locations))
    loose("tiatoolbox.models.models_abc", ModelABC=nn.Module)
    return alone("tiatoolbox.models.architecture." + file, name)(*given)


add(
    "tiatoolbox.NuClick",
    "tiatoolbox",
    2,
    lambda: tiatoolbox("nuclick", "NuClick", 5, 2),
    lambda: (rand(1, 5, 64, 64),),
    ["residual_block_7", "residual_block_9", "residual_block_10", "residual_block_12", "conv_block_2"],
)
add(
    "tiatoolbox.UNetModel-resnet50",
    "tiatoolbox",
    2,
    lambda: tiatoolbox("unet", "UNetModel", 3, 4, "resnet50"),
    x_rgb,
    seq("uplist.{}", 4),
    notes="skips are added by the parent, then a block that begins with a norm works",
)
