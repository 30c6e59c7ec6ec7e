"""A fifth list, of 29 November 2026, written blind: medical and microscopy networks of packages not tried before."""

import sys
import types

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-5")

CTUNET = seq("u_blocks.{}", 3)


def ctunet(**more):
    return alone("ctunet.pytorch.models", "UNet")(n_blocks=3, i_size=4, use_checkpoint=False, **more)


add(
    "ctunet.UNet",
    "ctunet",
    3,
    ctunet,
    x3,
    CTUNET,
    alts={2: ["in:last_conv"]},
    notes="a skip is laid beside each level and both go up at once; what the bottleneck makes is not used; a sigmoid",
)
add(
    "ctunet.UNet-added",
    "ctunet",
    3,
    lambda: ctunet(cat=False, apply_sigmoid=False),
    x3,
    CTUNET,
    alts={2: ["in:last_conv"]},
    notes="the parent adds skips and the sums go up at once; what the bottleneck makes is not used",
)


def interactivenet(strides, deep):
    make = alone("interactivenet.networks.unet", "UNet")
    kernels = [[1, 3, 3], *[[3, 3, 3]] * (len(strides) - 1)]
    return make(
        3, 2, 2, kernels, strides, strides[1:], filters=(8, 16, 32, 64, 64)[: len(strides)], deep_supervision=deep
    )


add(
    "interactivenet.UNet-DS",
    "interactivenet",
    3,
    lambda: interactivenet([[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]], True),
    lambda: (rand(1, 2, 16, 32, 32),),
    seq("up.{}", 4),
    "U DS",
    notes="own logits of the two levels in between, all in a list with the last; the first level shrinks two axes only",
)


def tardis(name, **more):
    loose("tardis_em.utils.errors")
    make = alone("tardis_em.cnn.utils.build_cnn", name)
    return make(img_patch_size=64, num_conv_layer=4, conv_layer_scaler=8, layer_components="2gcl", num_group=4, **more)


add(
    "tardis.UNet",
    "tardis-em",
    2,
    lambda: tardis("UNet"),
    x2,
    seq("decoder.{}", 3),
    notes="blocks go up, work and add a skip; the sums go up at once; sizes are fixed",
)
add(
    "tardis.FNet-attention",
    "tardis-em",
    2,
    lambda: tardis("FNet", attn_features=True),
    x2,
    [*seq("decoder_3plus.{}", 2), "in:final_conv_layer"],
    "U full-scale multi",
    notes="two decoders on shared skips, one full-scale; their last maps are laid beside each other",
)
add(
    "spineps.Unet3D",
    "spineps",
    3,
    lambda: alone("spineps.architectures.unet3D", "Unet3D")(8, dim_mults=(1, 2, 4), out_dim=3),
    x3,
    ["ups.0.1", "ups.1.1", "final_res_block"],
    notes="skips are averaged with what comes up, at the bottleneck too; a block more after the last level",
)
add(
    "mndino.UNet2D",
    "mndino",
    2,
    lambda: alone("mndino.detection", "UNet2D")(base_filters=4),
    x_rgb,
    seq("decoder_blocks.{}", 4),
    notes="the image is enlarged to a fixed size before, and the logits are brought back",
)
add(
    "nuscope.UNet2D",
    "nuscope-tomo",
    2,
    lambda: alone("nuscope_tomo.ai.unet", "UNet2D")(1, 1, 8, 3, True),
    x2,
    seq("dec.{}", 3),
    "U denoise",
    notes="the image is added to the output",
)
BIC = "bicbioseg.models."
DOUBLE = seq("d2.c{}", 1, 5)
add(
    "bicbioseg.DoubleUNet",
    "bicbioseg",
    2,
    lambda: alone(BIC + "doubleunet", "DoubleUNet")("resnet50", False, 3),
    x_rgb,
    ["a2", *DOUBLE],
    "U cascade",
    ladders=[DOUBLE],
    notes="the first U's logits gate the image of the second, and the larger of both is returned; ASPP at both bottoms",
)
add(
    "bicbioseg.PVTFormerFull",
    "bicbioseg",
    2,
    lambda: alone(BIC + "pvtformer_full", "PVTFormerFull")(3, 3, "b0", decoder_channels=16),
    x_rgb,
    ["decoder.0", "decoder.1", "fusion"],
    "U vit",
    notes="what the decoder makes and all reduced skips are brought to full size by blocks and merged",
)
UNEXT = seq("decoder.{}", 4)
add(
    "bicbioseg.UNeXtFull",
    "bicbioseg",
    2,
    lambda: alone(BIC + "unext_full", "UNeXtFull")(3, 3, widths=(8, 16, 32, 40, 64)),
    x_rgb,
    [*UNEXT, "final"],
    alts={4: ["in:head"]},
    notes="blocks work and then go up, at the bottleneck too; then an activation and the sum; shifted tokens",
)
SWIN = seq("decoder.{}", 3)
add(
    "bicbioseg.SwinUNetFull",
    "bicbioseg",
    2,
    lambda: alone(BIC + "swin_unet_full", "SwinUNetFull")(3, 3),
    x_rgb,
    [*SWIN, "final_expand"],
    "U vit",
    ladders=[SWIN],
    notes="channels last; a norm, then patches are expanded by 4, and a norm; the head is given what is expanded",
)


def celldetection(file, name):
    for package in ("pynvml", "segmentation_models_pytorch", "h5py"):
        loose(package)
    alone("celldetection.util.util", "lookup_nn")
    alone("celldetection.ops.commons", "split_spatially")
    return alone(f"celldetection.models.{file}", name)


add(
    "celldetection.SlimU22",
    "celldetection",
    2,
    lambda: celldetection("unet", "SlimU22")(1, 3),
    x2,
    seq("unet.layer_blocks.{}", 3, -1, -1),
    notes="made from torchvision's pyramid; skips are laid beside what comes up",
)


def manet():
    encoder = celldetection("unet", "UNetEncoder")(1, 4, 8, nd=3)
    return celldetection("manet", "MaNet")(encoder, 3, 8, nd=3)


add(
    "celldetection.MaNet-3D",
    "celldetection",
    3,
    manet,
    x3,
    seq("unet.layer_blocks.{}", 2, -1, -1),
    notes="a block works on the coarser map, goes up, is gated, merges and works; attention at the bottleneck",
)


class Hidden(nn.Module):
    """A plain transformer with the results of each of its layers, and a class token, as transformers' have them."""

    def __init__(self):
        super().__init__()
        self.net = named("timm", "create_model")(
            "vit_tiny_patch16_224", img_size=64, embed_dim=48, depth=4, num_heads=4
        )

    def forward(self, pixel_values, **_):
        made = self.net.forward_intermediates(
            pixel_values, [0, 1, 2, 3], return_prefix_tokens=True, intermediates_only=True
        )
        tokens = [torch.cat([rest, map.flatten(2).transpose(1, 2)], 1) for map, rest in made]
        return types.SimpleNamespace(hidden_states=tokens)


def cervical():
    shape = types.SimpleNamespace(patch_size=16, num_register_tokens=0, hidden_size=48)
    named("timm", "create_model")
    loose("torchvision")
    loose(
        "transformers",
        AutoConfig=types.SimpleNamespace(for_model=lambda *_, **more: shape),
        AutoModel=types.SimpleNamespace(from_config=lambda _: Hidden()),
    )
    config = dict(
        hidden_state_indices=[0, 1, 2, 3], class_names=[1, 2, 3], dpt_features=32, dpt_channels=[16, 24, 32, 48]
    )
    config |= dict(backbone=dict(model_type=""), wt_kernel_size=3, wt_levels=2)
    return alone("cervicalseg.model", "CervicalSegModel")(config)


add(
    "cervicalseg.CervicalSegModel",
    "cervicalseg",
    2,
    cervical,
    x_rgb,
    seq("head.scratch.refinenet{}", 4, 0, -1),
    "U vit",
    alts={3: ["head.scratch.output_conv.1"]},
    notes="DPT; a fusion works and goes up inside; wavelets, there and back, inside the blocks of two levels",
)
add(
    "ohana.UNet3D",
    "ohana",
    3,
    lambda: alone("ohana.models.unet_3d", "UNet3D")(1, 3, True),
    lambda: (rand(1, 1, 16, 32, 32),),
    seq("up{}", 1, 5),
)


def jcell():
    loose("netframework", save_defaults=lambda made: made, load_defaults=lambda made: made)
    return alone("jcell.train.src.models.arch.unet", "unet")(3, in_channels=1)


add(
    "jcell.unet",
    "jcell",
    2,
    jcell,
    lambda: (rand(1, 1, 220, 220),),
    seq("up{}", 4, 0, -1),
    "U valid",
    notes="half of the channels of what comes up are left out; skips are cropped",
)
add(
    "vitaminp.Pix2PixGenerator",
    "vitaminp",
    2,
    lambda: alone("vitaminp.gan.models", "Pix2PixGenerator")(),
    lambda: (rand(1, 3, 256, 256),),
    seq("up{}.model", 1, 8),
    "U gan",
    notes="a block goes up and lays a gated skip beside it, and both go up at once; the head goes up itself",
)
add(
    "torchxrayvision.pspnet",
    "torchxrayvision",
    2,
    lambda: alone("torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet", "pspnet")(3, [1, 1, 2, 1], (65, 65)),
    lambda: (rand(1, 3, 65, 65),),
    ["in:classification"],
    "nonU",
    notes="a pyramid of poolings, and no map comes up before the logits; a second output in train mode",
)


class Taps(nn.Module):
    """The maps of four layers of a plain transformer, as the package's encoder gives them."""

    def __init__(self):
        super().__init__()
        self.net = named("timm", "create_model")(
            "vit_tiny_patch16_224", img_size=128, in_chans=1, embed_dim=48, depth=4, num_heads=4
        )

    def features(self, image, layers, grad):
        return self.net.forward_intermediates(image, layers, intermediates_only=True)


def quantem(name):
    loose("quantem_em.spec")
    decoder = alone("quantem_em.models.decoders", name)(64, (4, 8, 16, 32), 3, 64)
    neck = named("quantem_em.models.necks", "ResNet34DetailNeck")(48, 4, 64, width=8)
    return named("quantem_em.models.base", "SegModel")(Taps(), neck, decoder, [0, 1, 2, 3])


add(
    "quantem.UPerNet",
    "quantem-core",
    2,
    lambda: quantem("UPerNet"),
    lambda: (rand(1, 1, 128, 128),),
    [*seq("decoder.fpn_convs.{}", 3, 0, -1), "decoder.fuse"],
    "FPN vit",
    notes="tokens are laid beside the maps of a second encoder on each level; the pooled level is smoothed too",
)
add(
    "quantem.DPT",
    "quantem-core",
    2,
    lambda: quantem("DPT"),
    lambda: (rand(1, 1, 128, 128),),
    seq("decoder.rcu_out.{}", 3, -1, -1),
    "FPN vit",
    alts={3: ["decoder.head.0"]},
    notes="DPT without going up inside: a sum, then a unit; the coarsest level has its unit too",
)


def lungs():
    models = "lungs_segmentation.unet"
    named("torch.utils.model_zoo", "load_url")
    sys.modules["torch.utils.model_zoo"].load_url = lambda *_, **more: {}
    return alone(models, "ConvTransposeResnetUnet")(3, "resnet34")


add(
    "lungs-segmentation.ConvTransposeResnetUnet",
    "lungs-segmentation",
    2,
    lungs,
    x_rgb,
    [*seq("bottlenecks.{}", 4), "last_upsample"],
    notes="a block goes up and works, another merges and works; a block without a skip after the last",
)


def rsunet():
    init = named("torch.nn", "init")
    vars(init).update(kaiming_normal=init.kaiming_normal_, constant=init.constant_)
    return alone("neuroseg.nets.RSUNet", "RSUNet")(depth=3)


add(
    "neuroseg.RSUNet",
    "neuroseg",
    3,
    rsunet,
    lambda: (rand(1, 1, 16, 32, 32),),
    ["deconv2", "deconv1", "embedconv"],
    notes="modules are got by name; activations are functions; a layer more after the last level; a list of one output",
)


class Seen(nn.Module):
    """A map of an image, a decoder of it, and a head that returns a list."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 32, 8, 8)
        self.decoder = alone("dinocell.model", "DINOCell_Decoder")("convolutional", 2, 32, 32, 0.0)
        self.head = named("dinocell.model", "DINOCell_Prediction_Head")("distance_map", 4, 0.0)

    def forward(self, x):
        return self.head(self.decoder(self.encoder(x)))


def dinocell():
    loose("transformers.modeling_outputs")
    loose("dinocell.utils")
    loose("dinocell.dinov2.dinov2.models.vision_transformer")
    return Seen()


add(
    "dinocell.Convolutional_Decoder",
    "dinocell",
    2,
    dinocell,
    x_rgb,
    [*seq("decoder.decoder.decoder.{}.1", 2), "decoder.decoder.decoder.2"],
    "U noskip microscopy",
    alts={2: ["head.prediction_head.dist_map_pred_head.4"]},
    notes="blocks of one build work and go up, on the coarsest level too; no skips; a head of three layers",
)
