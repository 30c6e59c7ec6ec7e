"""More of the tenth list, also blind: pictures that are mended, made and told from others, codes, cells."""

import sys
import types

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb
from published.unseen_10 import Registry, awake

add = adder("unseen-10")

FILM = seq("decoder_blocks.{}", 4)
add(
    "videoautoencoder.EfficientVideoAutoencoder",
    "videoautoencoder",
    3,
    lambda: alone("VideoAutoencoder.Model", "EfficientVideoAutoencoder")(16),
    lambda: (rand(1, 3, 8, 64, 64),),
    FILM,
    "U noskip films",
    notes="a gate at the bottom; layers go up, each with a norm; one does not along time; a layer more makes the film",
)
add(
    "videoautoencoder.AdaptiveEfficientVideoAutoencoder",
    "videoautoencoder",
    3,
    lambda: alone("VideoAutoencoder.Model", "AdaptiveEfficientVideoAutoencoder")(16, duration=1),
    lambda: (rand(1, 3, 8, 64, 64),),
    [*FILM[:3], "final_adjust.2"],
    "U films",
    alts={3: [FILM[3]]},
    notes="time is not shrunk; what went up is fitted to the skip, which is added; two layers more after the last",
)


def styled():
    loose("pystiche.data")
    return alone("pystiche.demo", "Transformer")()


add(
    "pystiche.Transformer",
    "pystiche",
    2,
    styled,
    x_rgb,
    seq("decoder.{}", 2),
    "U noskip style",
    notes="residual blocks at the bottom; blocks are resized before their layer, and such a block makes the picture",
)


def street(*kind):
    return named("pix2pixhd.models.networks", "define_G")(3, 3, 8, *kind)


add(
    "pix2pixhd.GlobalGenerator",
    "pix2pixhd",
    2,
    lambda: street("global", 3, 2),
    x_rgb,
    [f"in:model.{i}" for i in (18, 21, 24)],
    "U noskip gan",
    notes="residual blocks at the bottom; one activation for all, which works in place; a tanh",
)
add(
    "pix2pixhd.LocalEnhancer",
    "pix2pixhd",
    2,
    lambda: street("local", 2, 2, 1, 2),
    lambda: (rand(1, 3, 64, 64),),
    ["in:model.15", "model1_2.1", "in:model1_2.5"],
    "U cascade gan",
    notes="a network for the image at half its size; its last map is added to that of the image, then blocks",
)


def critic():
    loose("basicsr.utils.registry", ARCH_REGISTRY=Registry())
    file = "realesrgan.archs.discriminator_arch"
    net = alone(file, "UNetDiscriminatorSN")(3, 8)
    net.seen = seen = nn.Identity()  # takes the maps that no module sees
    used = sys.modules[file].F
    taken = types.SimpleNamespace(interpolate=used.interpolate)
    taken.leaky_relu = lambda *given, **more: seen(used.leaky_relu(*given, **more))
    sys.modules[file].F = taken
    return net


add(
    "realesrgan.UNetDiscriminatorSN",
    "realesrgan",
    2,
    critic,
    x_rgb,
    ["seen#4", "seen#5", "in:conv9"],
    "U gan",
    notes="activations are functions, in place; the parent adds skips, and the sum goes up; two layers more at the end",
)


def judged():
    attend = alone("linear_attention_transformer.images", "ImageLinearAttention")
    loose("linear_attention_transformer", ImageLinearAttention=attend)
    loose("fire")
    found, torch.cuda.is_available = torch.cuda.is_available, lambda: True  # the file asks for one
    make = alone("unet_stylegan2.unet_stylegan2", "Discriminator")
    torch.cuda.is_available = found
    return awake(make(64, 4))


add(
    "unet-stylegan2.Discriminator",
    "unet-stylegan2",
    2,
    judged,
    x_rgb,
    seq("up_blocks.{}", 3),
    "U gan multi",
    notes="blocks go up beside a layer that goes up too; one value for the image is returned before the map",
)
add(
    "opentryon.U2NETP",
    "opentryon",
    2,
    lambda: alone("tryon.preprocessing.u2net.u2net_human_segm", "U2NETP")(),
    x_rgb,
    ["stage6", *seq("stage{}d", 5, 0, -1)],
    "U nested DS",
    notes="blocks are U's themselves; seven probabilities are returned",
)
add(
    "neuro-deblur.NAFNet",
    "neuro-deblur",
    2,
    lambda: awake(alone("neuro_deblur.model", "NAFNet")(3, 8, 1, [1, 1, 1], [1, 1, 1])),
    lambda: (rand(1, 3, 60, 44),),
    seq("decoders.{}", 3),
    "U restoration",
    notes="goes up by pixel shuffle; the parent adds skips; a norm of its own; the image is added, and cropped",
)
add(
    "neuroimage-denoiser.UNet",
    "neuroimage-denoiser",
    2,
    lambda: alone("neuroimage_denoiser.model.unet", "UNet")(1),
    lambda: (rand(1, 1, 64, 64),),
    seq("up{}", 1, 5),
    "U neurons restoration",
)


def template():
    making = types.SimpleNamespace
    norm, act = making(create=nn.BatchNorm2d), making(create=nn.ReLU)
    rise = making(create=lambda _: nn.Upsample(scale_factor=2, mode="bilinear"))
    fall = making(create=lambda _, k: nn.MaxPool2d(k))
    spec = dict(encoder_out_features_depth=([8, 16, 24], [2, 2, 2]), decoder_out_features_depth=([16, 8], [2, 2]))
    spec |= dict(norm=norm, activation=act, upsampling=rise, downsampling=fall, dropout=0.0, bias=None, kernel=3)
    spec |= dict(dilation=1, padding=1, padding_mode="zeros", root=lambda: dict(task=making(n_classes=3)))
    return alone("nntemplate.model.unet", "SimpleUnet")(making(**spec), 3)


add(
    "nntemplate.SimpleUnet",
    "nntemplate",
    2,
    template,
    x_rgb,
    seq("decoder.Decoder-{}", 2),
    notes="each layer has its norm before it, and so has the head; an activation after it",
)
NOISE = seq("m_up{}", 3, 0, -1)
add(
    "noise2vst.DRUNet",
    "noise2vst",
    2,
    lambda: alone("noise2vst.models.drunet", "DRUNet")(),
    lambda: (rand(1, 1, 44, 60),),
    NOISE,
    "U restoration",
    ladders=[["m_body", *NOISE], [*NOISE[:2], "in:m_tail"], ["m_body", *NOISE[:2], "in:m_tail"]],
    notes="layers go up and blocks work; the parent adds skips, at the bottom too, and the last sum goes to the head",
)


class Quantized(nn.Module):
    """Only the picture is returned."""

    def __init__(self):
        super().__init__()
        loose("tensorguard", set_dim=lambda *_: None)
        encoder, decoder = (named("vqvae", f"sequential_{kind}coder") for kind in ("en", "de"))
        self.net = named("vqvae", "VQVAE")(encoder(3, 8, 16), decoder(8, 3, 16), 1.0, 16, 8, None)

    def forward(self, x):
        return self.net(x)["x_recon"]


add(
    "vqvae.VQVAE",
    "vqvae",
    2,
    Quantized,
    x_rgb,
    ["net.decoder.4", "net.decoder.7"],
    "U noskip",
    notes="a book of codes and residual blocks at the bottom; layers go up, each with a norm and an activation",
)


class Recalled(nn.Module):
    """Only the volume is returned."""

    def __init__(self):
        super().__init__()
        self.net = alone("nd_vq_vae.vqvae_ndim", "NDimVQVAE")(8, 16, 3, [4] * 3, 8, 1, 0.1, [32] * 3)

    def forward(self, x):
        return self.net(x)[1]


add(
    "nd-vq-vae.NDimVQVAE",
    "nd-vq-vae",
    3,
    Recalled,
    lambda: (rand(1, 3, 32, 32, 32),),
    ["in:net.decoder.convts.1", "net.decoder.convts.1"],
    "U noskip",
    notes="a book of codes and attention at the bottom; padded layers go up, the last of which makes the volume",
)


class Mean(nn.Module):
    """Without chance in the middle, as in eval mode; only the volume is returned."""

    def __init__(self):
        super().__init__()
        sizes = dict(init_filters=8, smallest_filters=16, blocks_down=(1, 1, 1), blocks_up=(1, 1))
        make = alone("vae3d2d.model", "CustomVAE")
        self.net = make(**sizes, downsample_strides=[(2, 2, 2)] * 2, vae_down_stride=(2, 2, 2))

    def forward(self, x):
        return self.net.decode(self.net.encode(x)[0])


add(
    "vae3d2d.CustomVAE",
    "vae3d2d",
    3,
    Mean,
    lambda: (rand(1, 1, 32, 32, 32),),
    ["net.vae_fc_up_sample", *seq("net.up_layers.{}", 2)],
    "U noskip",
    notes="the first level has a layer before it goes up, a norm and an activation after it; the others have blocks",
)


def dreams(file, name):
    return alone(f"diffusion.models.{file}", name)()


WIKI = ["net.4" + ".main.5" * i for i in range(5)]
WIKI_STAGES = [*(f"{path}.main.9" for path in WIKI[3::-1]), "net.8"]
add(
    "v-diffusion.WikiArt128Model",
    "v-diffusion-pytorch",
    2,
    lambda: dreams("wikiart_128", "WikiArt128Model"),
    lambda: (rand(1, 3, 64, 64), torch.tensor([0.5])),
    WIKI_STAGES,
    "U time",
    ladders=[[f"{WIKI[4]}.main.8", *WIKI_STAGES]],
    notes="blocks lie in each other, go up as their last step and lay their input beside; the last makes the image",
)

TAMING = "taming.modules.diffusionmodules.model"
SIZES = dict(ch=32, out_ch=3, ch_mult=(1, 2, 2), num_res_blocks=1, attn_resolutions=(), resolution=64)
add(
    "taming.Model",
    "taming-transformers",
    2,
    lambda: alone(TAMING, "Model")(**SIZES | dict(attn_resolutions=(16,)), in_channels=3),
    lambda: (rand(1, 3, 64, 64), torch.tensor([3])),
    ["up.2.attn.1", "up.1.block.1", "up.0.block.1"],
    "U time",
    notes="modules without a forward of their own hold blocks; skips at the bottleneck too; pre-activation",
)


class Tamed(nn.Module):
    """Only the picture is returned."""

    def __init__(self):
        super().__init__()
        loose("taming.main", instantiate_from_config=lambda _: nn.Identity())
        make = alone("taming.models.vqgan", "VQModel")
        self.net = make(SIZES | dict(in_channels=3, z_channels=8, double_z=False), None, 16, 8)

    def forward(self, x):
        return self.net(x)[0]


add(
    "taming.VQModel",
    "taming-transformers",
    2,
    Tamed,
    x_rgb,
    seq("net.decoder.up.{}.block.1", 2, -1, -1),
    "U noskip",
    notes="a book of codes at the bottom; blocks of one kind work and go up, on the coarsest level too; pre-activation",
)
add(
    "taming.VUNet",
    "taming-transformers",
    2,
    lambda: alone(TAMING, "VUNet")(**SIZES, in_channels=3, c_channels=3, z_channels=8),
    lambda: (rand(1, 3, 64, 64), rand(1, 8, 16, 16)),
    seq("up.{}.block.1", 2, -1, -1),
    "U multi-input",
    notes="a code is laid beside at the bottom; skips at the bottleneck too; pre-activation",
)
