"""The rest of the sixth list, also blind: cosmic rays, hearts, sounds, pictures made of noise, climate, noise."""

import torch
from torch import nn
from torch.nn import functional as F

from published.base import adder, alone, loose, named, rand, seq

add = adder("unseen-6")


def noise(channels=3):
    return rand(1, channels, 32, 32), torch.tensor([3])


add(
    "deepcr.UNet3",
    "deepCR",
    2,
    lambda: alone("deepCR.unet", "UNet3")(1, 1, 8),
    lambda: (rand(1, 1, 32, 32),),
    ["up7", "up8"],
    "U sky",
    notes="three levels; normed weights",
)
add(
    "cosmic-conn.UNet",
    "cosmic-conn",
    2,
    lambda: alone("cosmic_conn.dl_framework.unet", "UNet_module")(
        1, 1, 8, "group", (4, 0, False), "resnet", "avgpool", "upscale", True
    ),
    lambda: (rand(1, 1, 64, 64),),
    ["up3", "up2", "up1"],
    "U sky",
    notes="residual blocks going down, plain ones going up; one norm lies in two places of a block; a sigmoid",
)


class Names(dict):
    """A dict whose keys are attributes too."""

    def __init__(self, given=(), **more):
        super().__init__()
        for key, value in dict(given, **more).items():
            self[key] = type(self)(value) if isinstance(value, dict) else value

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)

    def __setattr__(self, name, value):
        self[name] = value


def subtract():
    loose("easydict", EasyDict=Names)
    loose("deprecate_kwargs", deprecate_kwargs=lambda *_, **__: lambda made: made)
    for package in ("bib_lookup", "torch_ecg.utils.misc", "torch_ecg.utils.download", "torch_ecg.utils.utils_data"):
        loose(package, add_docstring=lambda *_, **__: lambda made: made)
    alone("torch_ecg.utils.utils_nn", "SizeMixin")
    make = alone("torch_ecg.models.unets.ecg_subtract_unet", "ECG_SUBTRACT_UNET")
    return make(["a", "b", "c"], 2)


add(
    "torch-ecg.ECG_SUBTRACT_UNET",
    "torch-ecg",
    1,
    subtract,
    lambda: (rand(1, 2, 4000),),
    seq("up_blocks.up_{}", 3),
    "U hearts",
    notes="branches and their difference at the bottleneck; the output has channels last",
)


class Sampled(nn.Module):
    """Takes the map of what the network returns."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, *inputs):
        return self.net(*inputs).sample


def audiocraft():
    loose("audiocraft.modules.transformer")
    return Sampled(alone("audiocraft.models.unet", "DiffusionUnet")(2, 8, 3, num_steps=10, bilstm=True))


WORKED = seq("net.decoders.{}.res_blocks", 3)
ACTIVE = seq("net.decoders.{}.activation", 3)
add(
    "audiocraft.DiffusionUnet",
    "audiocraft",
    1,
    audiocraft,
    lambda: (rand(1, 2, 256), torch.tensor([3])),
    WORKED,
    "U audio time",
    ladders=[[*WORKED, "net.decoders.2"], ACTIVE, [*ACTIVE, "net.decoders.2"]],
    notes="the parent adds skips, at the bottleneck too; blocks work, begin to go up with a norm, and make the output",
)


def audioldm():
    loose("audioldm.utils")
    return alone("audioldm.latent_diffusion.openaimodel", "UNetModel")(
        image_size=32,
        in_channels=3,
        model_channels=32,
        out_channels=3,
        num_res_blocks=1,
        attention_resolutions=(4,),
        channel_mult=(1, 2, 2),
        num_heads=2,
        use_spatial_transformer=False,
    )


add(
    "audioldm.UNetModel",
    "audioldm",
    2,
    audioldm,
    noise,
    ["output_blocks.1.1", "output_blocks.3.0", "output_blocks.5"],
    "U audio time",
    notes="blocks end by going up, with a layer after it; skips at the bottleneck too",
)


def proteins():
    loose("ddpm_proteins.utils")
    return alone("ddpm_proteins.ddpm_proteins", "Unet")(16, dim_mults=(1, 2, 4), channels=1)


add(
    "ddpm-proteins.Unet",
    "ddpm-proteins",
    2,
    proteins,
    lambda: noise(1),
    ["ups.0.2", "ups.1.2", "final_conv.0"],
    "U time",
    notes="a skip at the bottleneck too, none on the last level",
)


def blurred(x, kernel, normalized=True):
    """What the package takes a blur from: each channel with one kernel of three by three."""
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), kernel, groups=x.shape[1])


def gigagan():
    loose("kornia.filters", filter2d=blurred)
    for package in ("gigagan_pytorch.open_clip", "numerize", "gigagan_pytorch.optimizer", "gigagan_pytorch.data"):
        loose(package)
    make = alone("gigagan_pytorch.unet_upsampler", "UnetUpsampler")
    style = dict(dim=16, depth=1)
    return make(
        16,
        image_size=64,
        input_image_size=16,
        dim_mults=(1, 2, 2, 4),
        full_attn=(False, False, False, True),
        cross_attn=(False,) * 4,
        attn_depths=(1,) * 4,
        temporal_attn_depths=(1,) * 4,
        self_attn_dim_head=8,
        self_attn_heads=2,
        style_network=style,
    )


GIGA = [*seq("ups.{}.8", 3), "final_res_block"]
add(
    "gigagan-pytorch.UnetUpsampler",
    "gigagan-pytorch",
    2,
    gigagan,
    lambda: (rand(1, 3, 16, 16), rand(1, 16)),
    ["mid_block2", *GIGA],
    "U gan multi-input",
    ladders=[GIGA],
    notes="images made of each level, the coarsest too, are enlarged and summed; the first levels go down later",
)


class Songs(nn.Module):
    """Gives the network no labels."""

    def __init__(self):
        super().__init__()
        make = alone("fme.downscaling.modules.physicsnemo_unets_v1.unets", "SongUNet")
        self.net = make(32, 3, 3, model_channels=16, channel_mult=[1, 2, 2], num_blocks=1, attn_resolutions=[8])

    def forward(self, x, noise):
        return self.net(x, noise, None)


add(
    "fme.SongUNet",
    "fme",
    2,
    Songs,
    lambda: (rand(1, 3, 32, 32), torch.tensor([0.3])),
    ["net.dec.8x8_block1", "net.dec.16x16_block1", "net.dec.32x32_block1"],
    "U time climate",
    notes="blocks are got by name, and those go up that are named so; skips at the bottleneck too; pre-activation",
)


def swinir():
    loose("basicsr.utils.registry", ARCH_REGISTRY=Registry())
    loose("basicsr.archs.arch_util", to_2tuple=lambda n: (n, n), trunc_normal_=nn.init.trunc_normal_)
    make = alone("basicsr.archs.swinir_arch", "SwinIR")
    return make(32, 1, 3, 24, (2, 2), (2, 2), window_size=8, upscale=1, upsampler="")


class Registry:
    """Takes what is registered, and gives it back."""

    def register(self, *_, **__):
        return lambda made: made


add(
    "basicsr.SwinIR",
    "basicsr",
    2,
    swinir,
    lambda: (rand(1, 3, 32, 32),),
    ["in:conv_last"],
    "nonU denoise",
    notes="one resolution; windows of tokens; the image is added to the output",
)


def adp():
    make = alone("stable_audio_tools.models.adp", "UNet1d")
    return make(
        in_channels=2,
        channels=16,
        multipliers=[1, 2, 2],
        factors=[2, 2],
        num_blocks=[1, 2],
        attentions=[0, 1, 1],
        attention_heads=2,
        attention_multiplier=2,
        resnet_groups=4,
    )


add(
    "stable-audio-tools.UNet1d",
    "stable-audio-tools",
    1,
    adp,
    lambda: (rand(1, 2, 128), torch.tensor([0.3])),
    ["upsamples.0.transformer", "upsamples.1.blocks.0", "in:to_out"],
    "U audio time",
    alts={2: ["upsamples.1", "to_out"]},
    notes="several skips on each level, the coarsest too; the parent adds the last, and a block makes the output of it",
)


def sphere():
    named("torch_harmonics", "ResampleS2")
    make = alone("torch_harmonics.examples.models.s2unet", "SphericalUNet")
    return make((32, 64), in_chans=2, out_chans=3, embed_dims=[8, 16, 24], depths=[1, 1, 1])


add(
    "torch-harmonics.SphericalUNet",
    "torch-harmonics",
    2,
    sphere,
    lambda: (rand(1, 2, 32, 64),),
    seq("in:ublocks.{}.upsample", 3),
    "U sphere",
    notes="blocks work and go up, the coarsest too; convolutions on a sphere; the last goes up to the head",
)


class Gains(nn.Module):
    """The package's encoder of bands and of a spectrum, and its decoder of the bands."""

    def __init__(self):
        super().__init__()
        loose("libdf")
        loose("icecream")
        config = alone("df.config", "config")
        config.use_defaults()
        self.encoder = alone("df.deepfilternet3", "Encoder")()
        self.decoder = alone("df.deepfilternet3", "ErbDecoder")()

    def forward(self, bands, spectrum):
        e0, e1, e2, e3, emb, _, _ = self.encoder(bands, spectrum)
        return self.decoder(emb, e3, e2, e1, e0)


add(
    "deepfilternet.ErbDecoder",
    "deepfilternet",
    2,
    Gains,
    lambda: (rand(1, 1, 10, 32), rand(1, 2, 10, 96)),
    ["decoder.convt3", "decoder.convt2", "decoder.convt1"],
    "U audio multi-input",
    alts={2: ["in:decoder.conv0_out"]},
    notes="one axis is resized; recurrent layers; the parent adds skips, two at the bottleneck; the head is a block",
)


def segformer():
    named("torch_harmonics", "ResampleS2")
    make = alone("torch_harmonics.examples.models.s2segformer", "SphericalSegformer")
    return make((32, 64), in_chans=2, out_chans=3, embed_dims=[8, 16, 24], heads=[1, 2, 2], depths=[1, 1, 1])


add(
    "torch-harmonics.SphericalSegformer",
    "torch-harmonics",
    2,
    segformer,
    lambda: (rand(1, 2, 32, 64),),
    ["in:segmentation_head"],
    "nonU sphere vit",
    notes="each level goes straight to full size, and all are laid side by side once",
)
