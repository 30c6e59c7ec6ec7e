"""More of the fourth list, also blind: satellites, buildings, roads, saliency, matting, road scenes."""

import types

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-4")


class Parts(nn.Module):
    """An encoder that returns a list of maps, a neck and a decoder that take it."""

    def __init__(self, encoder, *rest):
        super().__init__()
        self.encoder = encoder
        self.neck, self.decoder = rest if len(rest) == 2 else (nn.Identity(), *rest)

    def forward(self, x):
        return self.decoder(self.neck(self.encoder(x)))


def maps():
    return named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))


add(
    "saldet.U2NET_lite",
    "saldet",
    2,
    lambda: alone("saldet.models.models.u2net", "U2NET_lite")(),
    x_rgb,
    ["stage6", *seq("stage{}d", 5, 0, -1)],
    "U nested DS saliency",
    notes="blocks are U's themselves; forward() is written with functions in it; seven probabilities are returned",
)
BUILDINGS = "building_footprint_segmentation.seg.binary.models."
add(
    "buildings.AlBuNet",
    "building-footprint-segmentation",
    2,
    lambda: alone(BUILDINGS + "albunet", "AlBuNet")(),
    lambda: (rand(1, 3, 128, 128),),
    ["center", *seq("dec{}", 5, 1, -1), "dec0"],
    notes="blocks go up and work; a skip is laid beside each level, and both go up at once, at the first one too",
)
add(
    "buildings.MFRN",
    "building-footprint-segmentation",
    2,
    lambda: alone(BUILDINGS + "mfrn", "MFRN")(),
    x_rgb,
    seq("mfrn.decoder.decoderdenseblock{}", 1, 6),
    notes="dense blocks; a Sequential is made in forward()",
)
add(
    "buildings.ReFineNet",
    "building-footprint-segmentation",
    2,
    lambda: alone(BUILDINGS + "refinenet", "ReFineNet")(pre_trained_image_net=False),
    x_rgb,
    ["refine_block_4", "refine_block_3", "refine_block_2", "residual_convolution_unit#1"],
    "U scenes",
    notes="RefineNet; one unit is called twice in each block, and once more after the last",
)
WORKED, RETURNED = seq("in:decoder{}.deconv2", 3, 0, -1), seq("decoder{}", 4, 1, -1)
FINE = ["decoder1", "finalrelu2"]
add(
    "buildings.DLinkNet34",
    "building-footprint-segmentation",
    2,
    lambda: alone(BUILDINGS + "dlinknet", "DLinkNet34")(pre_trained_image_net=False),
    x_rgb,
    [*WORKED, *FINE],
    "U roads",
    ladders=[
        [*RETURNED, *FINE],
        ["in:decoder4.deconv2", *WORKED, *FINE],
        ["in:decoder4", *RETURNED, *FINE],
    ],
    notes="the parent adds skips, a block works on the sum before it goes up; dilated layers at the bottleneck",
)


def torchsat():
    loose("torchsat.models.utils")
    return alone("torchsat.models.segmentation.unet", "unet34")(3, is_deconv=True)


TERNAUS = ["center", *seq("dec{}", 5, 0, -1)]
add(
    "torchsat.unet34-deconv",
    "torchsat",
    2,
    torchsat,
    lambda: (rand(1, 3, 128, 128),),
    [*(name + ".block.0" for name in TERNAUS), "dec0"],
    ladders=[[*TERNAUS[:-1], "dec0"]],
    notes="a block works, goes up and ends with an activation; the bottleneck is one of them",
)
add(
    "geotorchai.UNet",
    "geotorchai",
    2,
    lambda: alone("geotorchai.models.raster.unet", "UNet")(3, 3),
    x_rgb,
    seq("up_sample{}", 1, 5),
)


def satlas():
    loose("requests")
    make = alone("satlaspretrain_models.model", "Model")
    kinds = named("satlaspretrain_models.utils", "Backbone"), named("satlaspretrain_models.utils", "Head")
    return make(3, False, kinds[0].SWINT, fpn=True, head=kinds[1].SEGMENT, num_categories=3)


SUMS = seq("in:fpn.fpn.layer_blocks.{}", 3, 0, -1)
add(
    "satlas.SwinT-FPN",
    "satlaspretrain-models",
    2,
    satlas,
    lambda: (rand(1, 3, 64, 64),),
    [*SUMS, "upsample.layers.0.1", "upsample.layers.1.1", "upsample.layers.1"],
    "FPN vit",
    alts={i: [name.removeprefix("in:")] for i, name in enumerate(SUMS)}
    | {3: ["fpn.fpn.layer_blocks.0"], 4: ["upsample.layers.0"], 5: ["head.layers.0"]},
    notes="only the finest level of the pyramid is used, though all are smoothed; then blocks end by going up",
)


def asymmetric(*rest):
    config = dict(scale_factor=4, num_classes=3, kernel_size=3)
    return Parts(maps(), *rest, alone("ever.module.fpn", "AssymetricDecoder")(32, 32, classifier_config=config))


add(
    "ever.FPN-AssymetricDecoder",
    "ever-beta",
    2,
    lambda: asymmetric(alone("ever.module.fpn", "FPN")([64, 128, 256, 512], 32)),
    x_rgb,
    [*seq("neck.fpn_layer{}", 4, 1, -1), "in:decoder.classifier"],
    "FPN",
    notes="all levels are brought to one size by blocks, and their mean has the head",
)


class Laterals(nn.Module):
    """A layer for each map, and what takes the list."""

    def __init__(self, widths, pyramid):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(width, 32, 1) for width in widths)
        self.pyramid = pyramid

    def forward(self, features):
        return self.pyramid([layer(x) for layer, x in zip(self.layers, features, strict=True)])


add(
    "ever.BiFPN",
    "ever-beta",
    2,
    lambda: asymmetric(Laterals([64, 128, 256, 512], alone("ever.module.fpn", "BiFPN")(32, [4, 8, 16, 32]))),
    x_rgb,
    [*seq("neck.pyramid.triple_fusion_modules.{}", 2, -1, -1), "in:decoder.classifier"],
    "FPN",
    notes="goes up and down again; weighted sums; maps are popped from lists",
)


def uper():
    loose("ever.module", LayerNorm2d=named("timm.layers", "LayerNorm2d"))
    return Parts(maps(), alone("torchange.module.uper", "UPerHead")([64, 128, 256, 512], 32, 3))


add(
    "torchange.UPerHead",
    "torchange",
    2,
    uper,
    x_rgb,
    [*seq("decoder.fpn_convs.{}", 3, 0, -1), "decoder.fuse_conv"],
    "FPN",
    notes="the pooled level is smoothed too",
)
add(
    "ml4floods.UNet_dropout",
    "ml4floods",
    2,
    lambda: alone("ml4floods.models.architectures.unets", "UNet_dropout")(4, 3),
    lambda: (rand(1, 4, 64, 64),),
    seq("dconv_up{}", 3, 0, -1),
    notes="one dropout after each block",
)
add(
    "semtorch.FCDenseNet",
    "semtorch",
    2,
    lambda: alone("semtorch.models.archs.tiramisu", "FCDenseNet")(
        down_blocks=(2, 2, 2), up_blocks=(2, 2, 2), bottleneck_layers=2, growth_rate=8, num_classes=3
    ),
    x_rgb,
    seq("denseBlocksUp.{}", 3),
    notes="dense blocks that return only what they made, but for the last; what goes up is cropped; log-softmax",
)
SEMISEG = "SemiSegAPI.architectures.models."
add(
    "semisup.FPENet",
    "semisup-segmentation",
    2,
    lambda: alone(SEMISEG + "fpenet", "FPENet")(3),
    x_rgb,
    ["meu1", "meu2"],
    "U scenes",
    alts={0: ["meu2.bn_high"]},
    notes="a module works on what comes up, gates it and the skip, and adds them; at half size",
)
add(
    "semisup.CGNet",
    "semisup-segmentation",
    2,
    lambda: alone(SEMISEG + "cgnet", "CGNet")(3),
    x_rgb,
    ["in:head"],
    "nonU scenes",
    notes="no map comes up before the logits",
)


def fastseg():
    named("geffnet", "mobilenetv3").load_pretrained = lambda *_: None
    return named("fastseg", "MobileV3Small")(3, use_aspp=True, num_filters=32)


add(
    "fastseg.MobileV3Small",
    "fastseg",
    2,
    fastseg,
    lambda: (rand(1, 3, 96, 96),),
    ["conv_up1", "conv_up2", "conv_up3"],
    "U scenes",
    notes="ASPP; skips are laid beside what comes up; at half size",
)


class Swin(nn.Module):
    """Stands for the backbone that a network takes of another package."""

    def __init__(self, config):
        super().__init__()
        self.net = maps()

    def forward(self, x):
        return types.SimpleNamespace(feature_maps=self.net(x))


def plain(input, offset, weight, bias, padding, mask, stride):
    """What a deformable layer does as long as its offsets and gates are those it begins with."""
    return nn.functional.conv2d(input, weight, bias, stride, padding)


def birefnet():
    maps()
    loose("torchvision.ops", deform_conv2d=plain)
    loose("transformers", SwinConfig=dict)
    loose("transformers.models.swin.modeling_swin", SwinBackbone=Swin)
    for name in ("loss", "utils", "birefnet.image_processing_birefnet"):
        loose("nobg." + name, birefnet_loss=None, predict=None, model_card_template=lambda *_, **more: None)
    loose("nobg.mixin", Revised_Mixin=type("Mixin", (), {"__init_subclass__": classmethod(lambda cls, **more: None)}))
    config = alone("nobg.birefnet.modeling_birefnet", "BiRefNetConfig")(embed_dim=64, dec_channels_inter=16)
    return named("nobg.birefnet.modeling_birefnet", "BiRefNet")(config)


OWN = [*seq("in:decoder.conv_ms_spvn.{}", 3), "decoder.decoder_blocks.3"]
add(
    "nobg.BiRefNet",
    "nobg",
    2,
    birefnet,
    lambda: (rand(1, 3, 128, 128),),
    OWN,
    "U matting DS",
    ladders=[[*OWN, "in:decoder.conv_out1"]],
    notes="patches of the image are laid beside each level; gates; own logits of three levels; deformable ASPP",
)


def mmseg():
    """The parts of the package, without what its __init__ files ask for."""
    loose("mmcv.ops")
    loose("mmseg.structures")
    loose("mmseg.utils")


NORM = dict(type="BN")


def mmunet():
    mmseg()
    up = alone("mmseg.models.backbones.unet", "InterpConv")
    encoder = named("mmseg.models.backbones.unet", "UNet")(base_channels=8, upsample_cfg=dict(type=up))
    head = alone("mmseg.models.decode_heads.fcn_head", "FCNHead")
    return Parts(
        encoder,
        head(num_classes=3, in_channels=8, channels=8, in_index=4, num_convs=1, concat_input=False, norm_cfg=NORM),
    )


add(
    "mmseg.UNet-FCNHead",
    "mmsegmentation",
    2,
    mmunet,
    x_rgb,
    seq("encoder.decoder.{}", 3, -1, -1),
    alts={3: ["decoder.convs"]},
    notes="a backbone that is a U returns the maps of all levels; the head has two layers",
)


def mmfpn():
    mmseg()
    neck = alone("mmseg.models.necks.fpn", "FPN")([64, 128, 256, 512], 32, 4)
    head = alone("mmseg.models.decode_heads.fpn_head", "FPNHead")
    more = dict(in_channels=[32] * 4, in_index=[0, 1, 2, 3], channels=16, norm_cfg=NORM)
    return Parts(maps(), neck, head(feature_strides=[4, 8, 16, 32], num_classes=3, **more))


add(
    "mmseg.FPN-FPNHead",
    "mmsegmentation",
    2,
    mmfpn,
    x_rgb,
    [*seq("neck.fpn_convs.{}", 3, 0, -1), "in:decoder.conv_seg"],
    "FPN",
    notes="all levels are brought to one size by blocks and added",
)


class Tokens(nn.Module):
    """A plain transformer: maps of four layers at 1/16, each with a class token."""

    def __init__(self):
        super().__init__()
        self.net = named("timm", "create_model")(
            "vit_tiny_patch16_224", img_size=64, embed_dim=48, depth=4, num_heads=4
        )

    def forward(self, x):
        made = self.net.forward_intermediates(x, [0, 1, 2, 3], return_prefix_tokens=True, intermediates_only=True)
        return [(tokens, rest[:, 0]) for tokens, rest in made]


def mmdpt():
    mmseg()
    head = alone("mmseg.models.decode_heads.dpt_head", "DPTHead")
    more = dict(in_channels=[48] * 4, in_index=[0, 1, 2, 3], input_transform="multiple_select", channels=32)
    return Parts(Tokens(), head(48, [16, 32, 48, 64], "project", num_classes=3, **more))


add(
    "mmseg.DPTHead",
    "mmsegmentation",
    2,
    mmdpt,
    x_rgb,
    [*seq("decoder.fusion_blocks.{}", 3), "decoder.project"],
    "U vit scenes",
    alts={3: ["decoder.fusion_blocks.3"]},
    notes="DPT; a fusion works and goes up inside; class tokens; at half size",
)
