"""A tenth list, of 30 November 2026, written blind: medical and microscopy networks, spectra, fields of physics."""

import types

import torch
from torch import nn

from published.base import adder, alone, loose, rand, seq, x3, x_rgb

add = adder("unseen-10")


def awake(net):
    """Weights that begin at nought would hide what the layers do."""
    for weight in net.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.1)
    return net


CRISP = "roche.crisp.networks."
TOKENS = dict(model_name="vit_tiny_patch16_224", img_size=64, pretrained=False)
add(
    "roche-crisp.Cellpose",
    "roche-crisp",
    2,
    lambda: alone(CRISP + "cellpose", "Cellpose")(3, [2, 8, 16, 24, 32]),
    lambda: (rand(1, 2, 64, 64),),
    seq("upsample.up.res_up_{}", 3, -1, -1),
    "U cells",
    notes="one block for each level, at the bottom too, where it adds the map to itself; a style; pre-activation",
)
add(
    "roche-crisp.VitUnet",
    "roche-crisp",
    2,
    lambda: alone(CRISP + "vitunet", "VitUnet")(3, False, TOKENS),
    x_rgb,
    [f"upsampling_decoder.{name}" for name in ("decoder3_upsampler.2", "decoder2_upsampler.1", "decoder1_upsampler.1")]
    + ["upsampling_decoder.decoder0_header.1"],
    "U vit cells",
    notes="what tokens become comes up by blocks of its own as skips; blocks end by going up",
)
add(
    "roche-crisp.ResUNet",
    "roche-crisp",
    2,
    lambda: alone(CRISP + "mtl_residual_unet", "ResUNet")(weights=None),
    x_rgb,
    seq("u{}", 5, 9),
    "U cells multi",
    notes="two decoders of one depth, whose layers go up and make the logits; activation before norm",
)


def stunet():
    loose("batchgenerators.augmentations.utils")
    loose("scipy.ndimage.filters")
    make = alone("segbook.nnunet.network_architecture.STUNet", "STUNet")
    return make(1, 3, [1] * 4, [4, 8, 12, 16], [[2, 2, 2]] * 3, [[3, 3, 3]] * 4)


add(
    "segbook.STUNet",
    "segbook",
    3,
    stunet,
    x3,
    seq("conv_blocks_localization.{}", 3),
    "U DS",
    notes="residual blocks; resized, then a layer; logits of each level",
)


def tnet():
    net = alone("TNet_Segmentation.net", "TNet")(3, 16)
    net.seen = seen = nn.Identity()  # takes the map that no module sees
    net.residual_upsampler = lambda block, layer, skip: seen(block + layer) + skip[-2]
    return net


add(
    "tnet-segmentation.TNet",
    "tnet-segmentation",
    2,
    tnet,
    x_rgb,
    ["in:unmax1", *seq("seen#{}", 3)],
    alts={1: ["in:unmax2"], 2: ["in:unmax3"], 3: ["in:output_conv"]},
    notes="goes up by indices that are all one; a block, a layer and a skip are added at once; one block works twice",
)


class Labelled(nn.Module):
    """The backbone and the head of the package's segmentor, which is given a batch with its labels."""

    def __init__(self):
        super().__init__()
        loose("ydl2.cnn._core.models.builder", BACKBONES=Registry(), HEADS=Registry())
        self.backbone = alone("ydl2.cnn._core.models.backbones.unet", "UNet")(3, 4)
        self.head = alone("ydl2.cnn._core.models.heads.seg_head", "FCNHead")(4, 8, 5)

    def forward(self, x):
        return self.head(self.backbone(x)[-1], x.shape[-2:])


class Registry:
    """Takes what is registered, and gives it back."""

    def register(self, *_, **__):
        return lambda made: made


add(
    "ydl2.UNet",
    "ydl2",
    2,
    Labelled,
    x_rgb,
    [*seq("backbone.dec{}", 4, 1, -1), "head.conv2"],
    alts={3: ["backbone.dec1"]},
    notes="the head has two layers more before the logits",
)


def vinn():
    make = alone("neurolit.networks.DiffusionUnet", "DiffusionModelUNetVINN")
    sizes = dict(num_res_blocks=1, num_channels=(16, 32, 32), attention_levels=(False, False, True))
    return awake(make(2, 1, 1, (32, 32), **sizes, norm_num_groups=8, interpolation_mode="bilinear", is_vinn=True))


add(
    "neurolit.DiffusionModelUNetVINN",
    "neurolit",
    2,
    vinn,
    lambda: (rand(1, 1, 64, 64), torch.tensor([[0.5, 0.5]]), torch.tensor([3])),
    ["up_blocks.0.attentions.1", "up_blocks.1.resnets.1", "up_blocks.2.resnets.1"],
    "U time",
    notes="the last level is reached by a resizing of any factor; skips at the bottleneck too; pre-activation",
)


def spectra():
    for module in ("nmrglue", "nmrglue.fileio.bruker", "scipy.ndimage.filters", "matplotlib.pyplot", "h5py", "pywt"):
        loose(module)
    loose("matplotlib")
    return alone("nmrdenoise.core", "AE_denoise").Autoencoder()


add(
    "nmrdenoise.Autoencoder",
    "nmrdenoise",
    1,
    spectra,
    lambda: (rand(1, 1, 256),),
    ["decoder.1", "decoder.3", "decoder.7"],
    "U noskip spectra restoration",
    alts={2: ["decoder.5"]},
    notes="layers go up, each with an activation; a layer more after the last; a tanh",
)


def diffused():
    loose("diffusers", ModelMixin=nn.Module, ConfigMixin=object)
    loose("diffusers.configuration_utils", register_to_config=lambda made: made)
    loose("diffusers.models.unets.unet_2d", UNet2DOutput=types.SimpleNamespace)
    loose("diffusers.models.embeddings")
    loose("diffusers.utils", BaseOutput=object)


PDE = "pdetransformer.core.mixed_channels."
DIT = dict(attn_type="v2", posemb_type="rope2d", downsampler="dwconv5", down_shortcut=1)


class Physics(nn.Module):
    """Leaves the name of the output out."""

    def __init__(self, name, make, *sizes, **more):
        super().__init__()
        diffused()
        self.net = awake(alone(PDE + name, make)(*sizes, **more))

    def forward(self, *given):
        made = self.net(*given)
        return getattr(made, "sample", made)


def fields(classes):
    return lambda: (rand(1, 2, 32, 32), torch.tensor([3.0]), torch.tensor([1]))[: 2 + classes]


add(
    "pdetransformer.UNet",
    "pdetransformer",
    2,
    lambda: Physics("unet", "UNetWrapper", 32, 2, 32, 2, [1, 2, 2], 1, False),
    fields(False),
    seq("net.upsamples.level_{}.1", 2, -1, -1),
    "U time physics",
    notes="blocks and a layer that goes up lie in a list for each level; skips at the bottleneck too; pre-activation",
)
add(
    "pdetransformer.U_DiT",
    "pdetransformer",
    2,
    lambda: Physics("udit", "U_DiT", 32, 2, 2, 2, None, 32, [1] * 5, 4, 2, learn_sigma=False, **DIT),
    fields(True),
    ["net.decoder_level_2.0", "net.output"],
    "U vit time physics",
    alts={1: ["net.decoder_level_1.0"]},
    notes="goes up by pixel shuffle; a layer after the last block; a modulated norm is the head's",
)
add(
    "pdetransformer.PDEImpl",
    "pdetransformer",
    2,
    lambda: Physics("pde_transformer", "PDEImpl", 2, 2, 4, 2, 32, depth=[2, 2, 2, 2, 2], num_heads=4),
    fields(True),
    ["net.decoder_level_1", "net.output"],
    "U vit time physics",
    alts={1: ["net.decoder_level_0"]},
    notes="windows; goes up by pixel shuffle; a layer after the last block; the head makes patches of pixels",
)
