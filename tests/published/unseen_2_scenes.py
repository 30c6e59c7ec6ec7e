"""More of the list of 29 November 2026, also blind: scenes, streets, satellites, change."""

from torch import nn

from published.base import adder, alone, named, rand, seq, x_rgb

add = adder("unseen-2")


class Parts(nn.Module):
    """An encoder that returns a list of maps, a decoder that takes it and returns another, and a head on that."""

    def __init__(self, encoder, decoder, head):
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def forward(self, x):
        return self.head(self.decoder(self.encoder(x)), x.shape[-2:])


class Finest(nn.Module):
    """A convolution on the finest of a list of maps."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 1)

    def forward(self, maps, size):
        return self.conv(maps[0])


def toolbelt(decoder, **more):
    encoder = named("pytorch_toolbelt.modules.encoders", "UnetEncoder")(3, 8, 4)
    made = named("pytorch_toolbelt.modules.decoders", decoder)(encoder.get_output_spec(), **more)
    if decoder == "UNetDecoder":
        return Parts(encoder, made, Finest(8))
    head = named("pytorch_toolbelt.modules.heads", "HypercolumnHead")
    return Parts(encoder, made, head(made.get_output_spec(), 4, "relu", "batch", 16))


add(
    "toolbelt.UNet",
    "pytorch-toolbelt",
    2,
    lambda: toolbelt("UNetDecoder", out_channels=(8, 16, 32)),
    x_rgb,
    seq("decoder.blocks.{}", 3),
)
add(
    "toolbelt.FPN",
    "pytorch-toolbelt",
    2,
    lambda: toolbelt("FPNDecoder", out_channels=16),
    x_rgb,
    ["decoder.lateral.3", "decoder.outputs.0", "decoder.outputs.1", "head.projection"],
    "FPN",
    notes="the smoothed map goes up; all levels are laid beside each other at the end",
)
add(
    "toolbelt.BiFPN",
    "pytorch-toolbelt",
    2,
    lambda: toolbelt("BiFPNDecoder", out_channels=16, num_layers=2),
    x_rgb,
    [*seq("decoder.bifpn.1.bottom_up_blocks.{}", 2, -1, -1), "head.projection"],
    "FPN",
)
ZOO = "solaris.nets.zoo."
add(
    "solaris.XDXD_UNetVGG16",
    "solaris",
    2,
    lambda: alone(ZOO + "xdxd_sn4", "XDXD_SpaceNet4_UNetVGG16")(8),
    x_rgb,
    ["center", "dec5", "dec4", "dec3", "dec1"],
    notes="a skip is laid beside a level and both go up at once",
)
add(
    "solaris.SelimSef_ResNet34UNet",
    "solaris",
    2,
    lambda: alone(ZOO + "selim_sef_sn4", "SelimSef_SpaceNet4_ResNet34UNet")(),
    lambda: (rand(1, 4, 64, 64),),
    [*seq("bottlenecks.{}", 4), "last_upsample"],
)
add(
    "solaris.LinkNet34",
    "solaris",
    2,
    lambda: alone(ZOO + "multiclass_segmentation", "MultiClass_LinkNet34")(4, pretrained=False),
    x_rgb,
    [*seq("decoder{}", 4, 0, -1), "finalrelu2"],
    alts={i: [f"decoder{3 - i}.relu#0"] for i in range(3)},
    notes="the parent adds a skip; the next block squeezes the sum, goes up and widens",
)


def seg_torch(file, name):
    return named("segmentation.models." + file, name)(4, 2)


add(
    "seg_torch.unet",
    "seg-torch",
    2,
    lambda: seg_torch("unet", "unet"),
    x_rgb,
    [f"features.{i}" for i in (40, 47, 54, 61)],
    notes="all layers in one Sequential, called one by one; maps are cropped after going up",
)
add(
    "seg_torch.unet_vgg11",
    "seg-torch",
    2,
    lambda: seg_torch("unet", "unet_vgg11"),
    x_rgb,
    seq("up_layer{}", 5),
)
UPS = ["upsampling2#0", "upsampling2#1"]
add(
    "seg_torch.fcn8_vgg11",
    "seg-torch",
    2,
    lambda: seg_torch("fcn8", "fcn8_vgg11"),
    x_rgb,
    [*UPS, "upsampling8"],
    "U logits",
    alts={2: [""]},
    ladders=[UPS],
    notes="logits of levels are summed by the parent and go up at once",
)
PYWICK = "pywick.models.segmentation."
add(
    "pywick.FusionNet",
    "pywick",
    2,
    lambda: alone(PYWICK + "fusionnet", "FusionNet")(4),
    x_rgb,
    seq("dec{}", 1, 5),
    notes="the parent adds a skip and a ReLU before each block",
)
add(
    "pywick.GCN",
    "pywick",
    2,
    lambda: alone(PYWICK + "gcnnets.gcn", "GCN")(4, pretrained=False),
    x_rgb,
    ["brm1", "brm5", "brm6", "brm7", "brm8", "brm9"],
    "FPN logits",
    notes="score maps of the encoder's levels, added up; the last block makes the logits",
)
add(
    "pywick.frrn",
    "pywick",
    2,
    lambda: alone(PYWICK + "frrn1", "frrn")(4, "A"),
    x_rgb,
    ["decoding_frru_2_192_8_1", "decoding_frru_2_192_4_1", "decoding_frru_2_96_2_1", "down_residual_units.2"],
    notes="a stream at full size is pooled into each block and added to by it",
)
add(
    "segmentation_refinement.RefinementModule",
    "segmentation-refinement",
    2,
    lambda: named("segmentation_refinement.models.psp.pspnet", "RefinementModule")(),
    lambda: (rand(1, 3, 64, 64), rand(1, 1, 64, 64)),
    ["psp#2", "up_1#1", "up_2", "in:final_21"],
    "U cascade",
    notes="the same network three times, each going up further; a dict of all logits",
)
add(
    "thyroid_agent.DINOv3_S_UNet",
    "thyroidagent",
    2,
    lambda: alone("thyroid_agent.models.dino_unet.dino_unet", "DINOv3_S_UNet")(pretrained=False),
    x_rgb,
    seq("up{}", 4, 0, -1),
    "U vit",
    notes="one map of tokens is brought to four sizes; skips are laid beside a level and both go up at once",
)
add(
    "masked2mask.UNet_pcb",
    "unet-masked2mask",
    2,
    lambda: alone("unet_masked2mask.models.unet_efb0", "UNet_pcb")(1, pretrained=False),
    x_rgb,
    ["decoder1", "decoder2", "decoder4", "decoder5"],
    notes="skips are laid beside a level and both go up at once; one block stays on its level",
)
add(
    "sv.UNet",
    "sv-seg",
    2,
    lambda: alone("sv.modules.baseline.unet", "UNet")(4),
    x_rgb,
    seq("decoder.dec.{}", 4),
)
TOOLS = "pytorch_tools.segmentation_models."
add(
    "pytorch_tools.SegmentationFPN",
    "pytorch-tools",
    2,
    lambda: named(TOOLS + "segm_fpn", "SegmentationFPN")(
        "resnet18", None, pyramid_channels=32, segmentation_channels=16, num_classes=4
    ),
    x_rgb,
    [*seq("fpn.smooth_convs.{}", 3), "in:segm_head"],
    "FPN",
)
add(
    "pytorch_tools.SegmentationBiFPN",
    "pytorch-tools",
    2,
    lambda: named(TOOLS + "segm_bifpn", "SegmentationBiFPN")(
        "resnet18", None, pyramid_channels=32, head_channels=32, num_classes=4
    ),
    x_rgb,
    ["bifpn.1.p_out_convs.2", "bifpn.2.p_up_convs.0", "bifpn.2.p_up_convs.1", "cls_head_conv.1"],
    "FPN",
    alts={3: ["bifpn.2.p_up_convs.2"]},
    notes="three times up and down; the head has three convolutions on the finest level alone",
)
add(
    "pytorch_tools.Unet",
    "pytorch-tools",
    2,
    lambda: named(TOOLS + "unet", "Unet")("resnet18", None, num_classes=4),
    x_rgb,
    seq("decoder.layer{}", 1, 6),
)
CV = "pytorchcv.models."
add(
    "pytorchcv.SegNet",
    "pytorchcv",
    2,
    lambda: named(CV + "segnet", "segnet_cityscapes")(4, in_size=(64, 64)),
    x_rgb,
    seq("up_stage{}", 1, 6),
    "U noskip",
    notes="unpooling by the indices of the encoder's pooling",
)
add(
    "pytorchcv.ESNet",
    "pytorchcv",
    2,
    lambda: named(CV + "esnet", "esnet_cityscapes")(4, in_size=(64, 64)),
    x_rgb,
    ["decoder.stage1", "decoder.stage2"],
    "U noskip",
    ladders=[["decoder.stage1", "decoder.stage2", "head"]],
    notes="a transposed convolution makes the logits",
)
add(
    "torchrs.FCSiamConc",
    "torch-rs",
    2,
    lambda: alone("torchrs.models.fc_cd", "FCSiamConc")(3, 2, 3),
    lambda: (rand(1, 2, 3, 64, 64),),
    seq("decoder.{}", 4),
    "U siamese",
    notes="two images in one tensor; the last block makes the logits",
)
add(
    "torchrs.FCEF",
    "torch-rs",
    2,
    lambda: alone("torchrs.models.fc_cd", "FCEF")(3, 2, 3),
    lambda: (rand(1, 2, 3, 64, 64),),
    seq("decoder.{}", 4),
    notes="the last block makes the logits",
)
add(
    "pl_bolts.UNet",
    "lightning-bolts",
    2,
    lambda: alone("pl_bolts.models.vision.unet", "UNet")(4, 3, 4, 8),
    x_rgb,
    seq("layers.{}", 4, 7),
    notes="one list of modules",
)
add(
    "labml_nn.UNet",
    "labml-nn",
    2,
    lambda: alone("labml_nn.unet", "UNet")(3, 4),
    x_rgb,
    seq("up_conv.{}", 4),
)


class Segmentor(nn.Module):
    """A network of a toolbox that is called with a structure of its own and returns another."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        batch = named("ssseg.modules.utils", "SSSegInputStructure")(mode="TEST", images=x)
        return self.net(batch).seg_logits


def ssseg(file, name, **head):
    config = dict(
        type=name,
        num_classes=4,
        align_corners=False,
        norm_cfg={"type": "BatchNorm2d"},
        act_cfg={"type": "ReLU", "inplace": True},
        backbone=dict(type="ResNet", depth=18, structure_type="resnet18", pretrained=False, outstride=32),
        head=dict(in_channels_list=[64, 128, 256, 512], feats_channels=32, dropout=0.1, **head),
        auxiliary=None,
    )
    return Segmentor(alone(f"ssseg.modules.models.segmentors.{file}.{file}", name)(config, "TEST"))


add(
    "ssseg.UPerNet",
    "sssegmentation",
    2,
    lambda: ssseg("upernet", "UPerNet", pool_scales=[1, 2, 3, 6]),
    x_rgb,
    ["net.ppm_net", "net.fpn_convs.2", "net.fpn_convs.1", "net.decoder.2"],
    "FPN",
)
add(
    "ssseg.SemanticFPN",
    "sssegmentation",
    2,
    lambda: ssseg(
        "semanticfpn",
        "SemanticFPN",
        feature_stride_list=[4, 8, 16, 32],
        scale_head_channels=16,
        upsample_cfg=dict(mode="nearest"),
    ),
    x_rgb,
    [*seq("net.fpn_neck.fpn_convs.{}", 3, 0, -1), "in:net.decoder"],
    "FPN",
)
