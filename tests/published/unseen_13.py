"""A thirteenth list, of 30 November 2026, written blind: networks made for segmentation, of packages not tried yet."""

from torch import nn

from published.base import Loose, adder, alone, loose, named, rand, seq, x2, x3

add = adder("unseen-13")

add(
    "arcjetcv.Conv1DNet",
    "arcjetcv",
    1,
    lambda: alone("arcjetCV.segmentation.time.time_segmentation", "Conv1DNet")(),
    lambda: (rand(1, 1, 64),),
    ["in:convtrans2", "in:convtrans3"],
    "U noskip video",
    notes="one layer for each level; the activation is a function and one dropout stands after each; a softmax",
)
COLORS = ["decoder.up8", "decoder.up4", "decoder.up1"]
add(
    "codelor-color.CodelorColor",
    "codelor-color",
    2,
    lambda: alone("codelor_color.model", "CodelorColor")(16, 2, 2, 1),
    lambda: (rand(1, 3, 64, 64), rand(1, 3)),
    COLORS,
    "U vit matting multi-input",
    ladders=[["decoder.proj16", *COLORS]],
    notes="a color is an input; tokens at the bottom; the image is laid beside the last level, four times larger; "
    "logits of the bottom are made, but returned only where they are asked for",
)


class NoDropout(nn.Module):
    """The package's network drops channels in eval mode too, unless told not to."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x, False)


def dense():
    loose("dmt.nets.basemodel", BaseModel=nn.Module)  # the package has it under another name
    return NoDropout(alone("dmt.nets.unets.denseunet2d", "DenseUNet2D")("densenet121", 2, False))


add(
    "deep-medical-toolkit.UNet3D",
    "deep-medical-toolkit",
    3,
    lambda: alone("dmt.nets.unets.unet3d", "UNet3D")(1, 2),
    lambda: (rand(1, 1, 16, 16, 16),),
    ["up_tr256", "up_tr128", "up_tr64"],
    "U",
    notes="norms count batches in eval mode too; maps are kept as attributes; a sigmoid",
)
DENSE = seq("net.up{}", 1, 5)
add(
    "deep-medical-toolkit.DenseUNet2D",
    "deep-medical-toolkit",
    2,
    dense,
    lambda: (rand(1, 3, 224, 224),),
    [*DENSE, "in:net.conv2"],
    "U",
    ladders=[DENSE],
    notes="skips are taken by hooks and added; the last level is resized, then two layers; a classifier and the bottom "
    "are returned too, before the logits; the bottom is overwritten, so that it cannot be trained",
    train=False,
)
add(
    "deep-medical-toolkit.UNet2D",
    "deep-medical-toolkit",
    2,
    lambda: alone("dmt.nets.unets.unet2d", "UNet2D")(1, 2),
    lambda: (rand(1, 1, 32, 32),),
    seq("up{}", 1, 5),
)


def fields():
    for module in ("lightning", "segmentation_models_pytorch", "dl4eo.io", "dl4eo.splits", "dl4eo.stats"):
        loose(module)
    return alone("dl4eo.train", "_SegFormerModel")("resnet18", 4, 3, 64)


FIELDS = seq("decoder.projs.{}", 4, 0, -1)
add(
    "dl4eo.SegFormerModel",
    "dl4eo",
    2,
    fields,
    lambda: (rand(1, 4, 64, 64),),
    [*FIELDS, "decoder.projs.0", "decoder.fuse"],
    "FPN satellites",
    ladders=[[*FIELDS, "decoder.fuse"]],
    notes="each level is projected and resized to the whole image, finer than any of them, then merged",
)
add(
    "dxtorchutils.UNet",
    "dxtorchutils",
    2,
    lambda: alone("dxtorchutils.SemanticSegmentation.models.UNet", "UNet")(2, 1),
    lambda: (rand(1, 1, 32, 32),),
    seq("de_block{}", 1, 5),
    notes="norms after activations",
)
add(
    "hover-net.HoVerNet",
    "hover-net",
    2,
    lambda: alone("hover_net.models.hovernet.net_desc", "HoVerNet")(mode="fast"),
    lambda: (rand(1, 3, 128, 128),),
    ["decoder.np.u3", "decoder.np.u2", "decoder.np.u1"],
    "U multi valid cells",
    notes="two decoders, of nuclei and of distances; skips are cropped and added; the head begins with a norm",
)


def kit(module, name):
    for stand_in in ("mmseg", "mmseg.models", "mmseg.models.decode_heads", "mmseg.models.decode_heads.decode_head"):
        loose(stand_in)
    loose("itkit.mm")
    loose("itkit.mm.mmseg_Dev3D")
    return alone(f"itkit.models.{module}", name)


add(
    "itkit.UNet3Plus",
    "itkit",
    2,
    lambda: kit("UNet3Plus", "UNet3Plus")([1, 64, 64], 2, [4, 8, 12, 16, 20]),
    x2,
    seq("d{}_conv", 4, 0, -1),
    "U nested",
    notes="each level is laid beside all finer ones of the encoder, pooled, and all coarser ones, resized; a sigmoid",
)
add(
    "itkit.MedNeXt",
    "itkit",
    3,
    lambda: kit("MedNeXt", "MedNeXt")(1, 4, 2, 2, 3, True, do_res=True, do_res_up_down=True),
    x3,
    seq("dec_block_{}", 3, -1, -1),
    "U",
    notes="skips are added by the parent, then residual blocks work",
)
KIT = seq("decoder.mlps.{}", 3, 0, -1)
add(
    "itkit.SegFormer3D",
    "itkit",
    3,
    lambda: kit("SegFormer3D.SegFormer3D", "SegFormer3D")(
        1, [4, 8, 12, 16], [1, 1, 2, 2], [2] * 4, [1] * 4, decoder_head_embedding_dim=8
    ),
    lambda: (rand(1, 1, 64, 64, 64),),
    [*KIT, "decoder.fuse"],
    "FPN vit",
    notes="each level is projected by a layer and a norm, resized to the finest and merged",
)


def bag(name, module, *args, **kw):
    loose("jbag.config")
    loose("jbag.models.network_weight_initialization")
    return alone(f"jbag.models.{module}", name)(*args, norm_op=nn.BatchNorm2d, act=nn.ReLU, **kw)


add(
    "jbag.UNet",
    "jbag",
    2,
    lambda: bag("UNet", "unet", 1, 2, 4, [4, 8, 12, 16], nn.Conv2d, 3, [1, 2, 2, 2], 2, 2, deep_supervision=True),
    x2,
    seq("decoder.stages.{}", 3),
    "U DS",
)
add(
    "jbag.UNetPlusPlus",
    "jbag",
    2,
    lambda: bag("UNetPlusPlus", "unet_plus_plus", 1, 2),
    lambda: (rand(1, 1, 32, 32),),
    ["conv3_1", "conv2_2", "conv1_3", "conv0_4"],
    "U nested",
)


def slides(module, name):
    loose("lazyslide_models._utils")
    loose("lazyslide_models._model_registry", register=lambda **_: lambda made: made)
    loose("lazyslide_models.base", InputConstraint=lambda **_: None, ModelTask=Loose("tasks"))
    loose("lazyslide_models.segmentation.cellvit_family.postprocess")
    return alone(f"lazyslide_models.segmentation.{module}", name)


def branch(name):
    return [
        f"{name}.decoder3_upsampler.2",
        *(f"{name}.decoder{i}_upsampler.1" for i in (2, 1)),
        f"{name}.decoder0_header.1",
    ]


add(
    "lazyslide-models.HistoPLUSModel",
    "lazyslide-models",
    2,
    lambda: slides("cellvit_family.histoplus", "HistoPLUSModel")(56),
    lambda: (rand(1, 3, 56, 56),),
    branch("np_branch"),
    "U vit multi cells",
    ladders=[branch("tp_branch")],
    notes="three decoders of one build: nuclei, distances and, with more classes, types; each block works and goes up; "
    "patches of 14 pixels, so that the last map is made smaller; tokens of the last block are returned too",
)
POSES = ["bottleneck_up.block", *seq("decoder_blocks.{}.block", 4)]
add(
    "lazyslide-models.ClassposeUNet",
    "lazyslide-models",
    2,
    lambda: slides("classpose._blocks", "UNet")(8, 3, [4, 8, 12, 16]),
    lambda: (rand(1, 8, 64, 64),),
    [*POSES, "decoder_blocks.3"],
    "U cells",
    ladders=[POSES],
    notes="a head on an encoder's map; blocks work and go up, at the bottom too; the last of them makes the logits and "
    "goes up with them",
)


class Scales(nn.Module):
    """The package's network of two inputs, of which the second is finer, and its output too; that comes first here."""

    def __init__(self, name):
        super().__init__()
        nets = [dict(top_resolution=(size, size), base_nc=4) for size in (32, 8)]
        self.net = named("leibnetz", name)(nets)

    def forward(self, coarse, fine):
        made = self.net({"0_input": coarse, "1_input": fine})
        return made["1_output"], made["0_output"]


def node(*names):
    return [f"net.nodes_dict.{name}.model" for name in names]


add(
    "leibnetz.UNet",
    "leibnetz",
    2,
    lambda: named("leibnetz", "build_unet")((8, 8), base_nc=4),
    lambda: (rand(1, 1, 60, 60),),
    ["nodes_dict.out_conv_1.model", "nodes_dict.out_conv_0.model"],
    "U valid",
    notes="a graph of nodes, whose forward() is called by itself; a sigmoid",
)
SCALED = node("0_out_conv_1", "1_bottleneck", "1_out_conv_1", "1_out_conv_0")
for name, build, sizes in (
    ("ScaleNet", "build_scalenet", (60, 92)),
    ("AttentiveScaleNet", "build_attentive_scale_net", (90, 114)),
):
    add(
        f"leibnetz.{name}",
        "leibnetz",
        2,
        lambda build=build: Scales(build),
        lambda sizes=sizes: tuple(rand(1, 1, size, size) for size in sizes),
        SCALED,
        "U valid multi-input cascade",
        ladders=[node("0_out_conv_1", "0_out_conv_0", "1_out_conv_1", "1_out_conv_0")],
        notes="the last map of a U over a wider, coarser image is laid beside the bottom of the second; logits of both",
    )
