"""A sixth list, of 29 November 2026, written blind: medical and microscopy networks of packages not tried before."""

import sys
import types

import torch
from torch import nn

from published.base import adder, alone, loose, rand, seq, x2, x3

add = adder("unseen-6")

add(
    "ufish.UFishNet",
    "ufish",
    2,
    lambda: alone("ufish.model.network.ufish_net", "UFishNet")(1, 2),
    x2,
    [*seq("decoders.{}", 1), "in:final_decoder.conv.conv2"],
    "U spots",
    alts={1: ["decoders.1", "final_decoder.cbam", "final_decoder"]},
    notes="activations are functions; a gated block of the decoder's kind makes the logits, with an activation",
)


def unet25d():
    return alone("viscy.unet.networks.Unet25D", "Unet25d")(
        1, 2, in_stack_depth=5, out_stack_depth=1, num_blocks=3, num_filters=[8, 16, 24, 32], task="reg"
    )


add(
    "viscy.Unet25d",
    "viscy",
    3,
    unet25d,
    lambda: (rand(1, 1, 5, 32, 32),),
    seq("up_conv_block_{}", 3),
    notes="the depth is brought to one at the bottleneck and on the skips; some modules lie in plain lists",
)


def pymic(where, name, **more):
    loose("pymic.net.net_init")
    chosen = dict(in_chns=1, class_num=3, feature_chns=[8, 16, 32, 64, 128], dropout=[0, 0, 0, 0, 0]) | more
    return alone(f"pymic.net.{where}", name)(chosen)


COPLE = seq("up{}", 1, 5)
add(
    "pymic.COPLENet",
    "PYMIC",
    2,
    lambda: pymic("net2d.cople_net", "COPLENet"),
    x2,
    ["aspp", *COPLE],
    ladders=[COPLE],
    notes="ASPP at the bottleneck; residual blocks; gates on channels, added; two poolings side by side",
)
add(
    "pymic.LCOVNet",
    "PYMIC",
    3,
    lambda: pymic("net3d.lcovnet", "LCOVNet", multiscale_pred=True),
    x3,
    seq("Decode_block{}", 1, 5),
    "U DS",
    notes="a layer works before going up; one pooling is called thrice; own logits of each level but the coarsest",
)


def atommic(name):
    alone("atommic.collections.reconstruction.nn.unet_base.unet_block", "Unet")
    kind = name.lower()
    return alone(f"atommic.collections.segmentation.nn.{kind}_base.{kind}_block", name)


LAMBDA = [*seq("up_conv.{}", 3), "up_conv.3.0"]
add(
    "atommic.LambdaUNet",
    "atommic",
    2,
    lambda: atommic("LambdaUNet")(1, 3, 32, 4, query_depth=4),
    x2,
    LAMBDA,
    notes="lambda layers instead of convolutions; the head lies in the last block",
)
add(
    "atommic.AttentionUnet",
    "atommic",
    2,
    lambda: atommic("AttentionUnet")(1, 3, 8, 4),
    lambda: (rand(1, 1, 72, 56),),
    LAMBDA,
    notes="skips are gated by the coarser map; the head lies in the last block; padded where sizes are odd",
)
add(
    "deepdrr.VNet",
    "deepdrr",
    3,
    lambda: alone("deepdrr.network_segmentation", "VNet")(),
    lambda: (rand(1, 4, 32, 32, 32),),
    ["up_tr256", "up_tr128", "up_tr64", "up_tr32"],
    alts={3: ["out_tr.relu1"]},
    notes="residual blocks; norms that always take the batch's statistics; a head of two layers, and a softmax",
)


def meddlr():
    loose("fvcore.common.registry", Registry=lambda _: Registry())
    loose("meddlr.config.config", configurable=lambda made: made)
    alone("meddlr.modeling.layers.build", "LayerInfo")
    loose("meddlr.modeling.meta_arch.build", META_ARCH_REGISTRY=Registry())
    alone("meddlr.modeling.meta_arch.build", "META_ARCH_REGISTRY")
    sys.modules["meddlr.modeling.meta_arch"].META_ARCH_REGISTRY = Registry()
    return alone("meddlr.modeling.meta_arch.generalized_unet", "GeneralizedUNet")(3, 1, 3, [8, 16, 24, 32])


class Registry(dict):
    """Takes what is registered, and gives it back."""

    _obj_map = types.MappingProxyType({})

    def register(self, *_, **__):
        return lambda made: made


add(
    "meddlr.GeneralizedUNet",
    "meddlr",
    3,
    meddlr,
    x3,
    seq("up_blocks.block{}.1", 2, -1, -1),
    notes="norms after activations; blocks are got by name from dicts",
)
INVERSE = [f"up.{i}.invdilconvblock{i - 1}" for i in range(4)]
MADE = seq("up.{}", 4)
MIXED = [*MADE[:3], INVERSE[3]]
add(
    "mridc.MWCNN",
    "mridc",
    2,
    lambda: alone("mridc.collections.reconstruction.models.mwcnn.mwcnn", "MWCNN")(2, 8),
    lambda: (rand(1, 2, 64, 64),),
    INVERSE,
    "U wavelets restoration",
    ladders=[MIXED, MADE, INVERSE[1:], MIXED[1:], MADE[1:]],
    notes="wavelets go down and, by slicing, up; blocks work and go up, at the bottleneck too; the parent adds skips",
)
HOVER = [f"decode_np.{name}" for name in ("u3_convf", "u2_convf", "u1_conva")]
add(
    "histocartography.HoverNet",
    "histocartography",
    2,
    lambda: alone("histocartography.ml.models.hovernet", "HoverNet")(),
    lambda: (rand(1, 3, 128, 128),),
    HOVER,
    "U multi valid",
    notes="two decoders of one kind; dense blocks of valid convolutions; pre-activation; the output has channels last",
)


def noise(channels=1):
    return rand(1, channels, 32, 32), torch.tensor([3])


def spade():
    return alone("generative.networks.nets.spade_diffusion_model_unet", "SPADEDiffusionModelUNet")(
        2,
        1,
        1,
        label_nc=3,
        num_res_blocks=(1, 1, 1),
        num_channels=(8, 16, 16),
        attention_levels=(False, False, True),
        norm_num_groups=4,
        num_head_channels=8,
    )


class Labelled(nn.Module):
    """Gives the network the labels by name."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, steps, labels):
        return self.net(x, steps, seg=labels)


SPADE = ["net.up_blocks.0.attentions.1", "net.up_blocks.1.resnets.1", "net.up_blocks.2"]
add(
    "monai-generative.SPADEDiffusionModelUNet",
    "monai-generative",
    2,
    lambda: Labelled(spade()),
    lambda: (*noise(), rand(1, 3, 32, 32)),
    SPADE,
    "U time cond multi-input",
    notes="blocks end by going up, with a layer after it; skips at the bottleneck too; norms take maps of labels",
)


def acs():
    return alone("acsconv.models.acsunet", "ACSUNet")(3)


add(
    "acsconv.ACSUNet",
    "ACSConv",
    3,
    acs,
    lambda: (rand(1, 1, 16, 32, 32),),
    ["dec1"],
    "nonU",
    notes="convolutions of three kinds in one; one merge only, at half the size; the head is given it enlarged",
)
