"""The rest of the fourth list, also blind: restoration, pictures made of noise, sound, earthquakes, a U on hooks."""

import importlib

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-4")
UPS = seq("m_up{}", 3, 0, -1)
add(
    "vsdpir.UNetRes",
    "vsdpir",
    2,
    lambda: alone("vsdpir.network_unet", "UNetRes")(4, 3, [8, 16, 32, 64], 1),
    lambda: (rand(1, 4, 64, 64),),
    UPS,
    "U denoise",
    ladders=[["m_body", *UPS]],
    notes="skips are added by the parent and the sums go up at once, at the bottleneck too",
)
add(
    "resemble.UNet",
    "resemble-enhance",
    2,
    lambda: alone("resemble_enhance.denoiser.unet", "UNet")(3, 3),
    lambda: (rand(1, 3, 60, 64),),
    seq("decoder_blocks.{}@[0]", 4),
    "U audio",
    alts={3: ["head.1"]},
    notes="one kind of block everywhere, which returns a pair; goes down by interpolation; padded and cropped",
)


def wavedenoiser():
    loose("lightning", LightningModule=nn.Module)
    loose("h5py")
    return alone("wavedenoiser.wavedenoiser", "PNet")(filters_root=8)


add(
    "wavedenoiser.PNet",
    "wavedenoiser",
    1,
    wavedenoiser,
    lambda: (rand(1, 3, 5700),),
    [*seq("in:up_branch.{}.0", 1, 4), "in:out"],
    "U seismic",
    notes="blocks are lists of layers; strides of 4; activations are functions; what goes up is cropped",
)


def minimagen():
    loose("minimagen.t5", get_encoded_dim=lambda _: 16)
    loose("resize_right")
    return alone("minimagen.Unet", "Unet")(dim=16, dim_mults=(1, 2, 4), attn_heads=2)


def noise(channels=3):
    return rand(1, channels, 32, 32), torch.tensor([3])


add(
    "minimagen.Unet",
    "minimagen",
    2,
    minimagen,
    noise,
    ["ups.0.2", "ups.1.2", "final_res_block"],
    "U time",
    notes="skips at the bottleneck too; a block more after the last level; text is left out",
)


def fcdm():
    return alone("src.models.fcdm.fcdm_models", "FCDM")(
        in_channels=3, hidden_size=16, depth=(1, 1, 1, 1, 1), num_classes=4, learn_sigma=False
    )


add(
    "pitm.FCDM",
    "pytorch-image-translation-models",
    2,
    fcdm,
    lambda: (*noise(), torch.tensor([1])),
    ["decoder_level_2.0", "output_layer"],
    "U time cond",
    alts={1: ["decoder_level_1.0"]},
    notes="pixel shuffles both ways; the last layer and the blocks' gates begin at nought",
)
add(
    "pitm.Pix2PixHD",
    "pytorch-image-translation-models",
    2,
    lambda: pix2pixhd(),
    x_rgb,
    ["in:model.18", "in:model.21", "in:model.24"],
    "U noskip gan",
    notes="all in one list, without skips; one activation for all, in place; reflected at the borders",
)


def pix2pixhd():
    return alone("src.models.pix2pixhd.generator", "Pix2PixHDGlobalGenerator")(ngf=8, n_downsampling=3, n_blocks=2)


add(
    "rddm.UNetModel",
    "rddm",
    2,
    lambda: alone("model.unet", "UNetModel")(32, 2, 32, 1, 1, (2,), channel_mult=(1, 2, 2)),
    lambda: (*noise(1), rand(1, 1, 32, 32)),
    ["output_blocks.1.0", "output_blocks.3.1", "output_blocks.5"],
    "U time multi-input",
    notes="skips at the bottleneck too; a second image; the last layer begins at nought",
)
GATER = "resselt.archs.gater.arch"
add(
    "resselt.GateR",
    "resselt",
    2,
    lambda: alone(GATER, "GateR")(8, num_blocks=(1,) * 7),
    x_rgb,
    ["dec0.1", "dec1.1", "dec2"],
    "U restoration",
    alts={2: ["dim_to_ch.0"]},
    notes="blocks end with a pixel shuffle; the head has two convolutions; the image is added to the output",
)
add(
    "resselt.UpCunet2x",
    "resselt",
    2,
    lambda: alone("resselt.archs.cugan.arch", "UpCunet2x")(),
    lambda: (rand(1, 3, 32, 32),),
    ["unet2.conv4", "in:unet2.conv_bottom"],
    "U cascade valid restoration",
    notes="two U's, the first goes up at its end, and what it made is cropped and added to what the second makes",
)


def fastai():
    """The network of the package, without what it has for data and training."""
    for name in ("fastprogress", "fastprogress.fastprogress", "fastdownload"):
        loose(name, progress_bar=None, master_bar=None)
    alone("fastai.torch_basics", "nn")
    basics = {k: v for k, v in vars(importlib.import_module("fastai.torch_basics")).items() if k[:2] != "__"}
    loose("fastai.basics", **basics, Callback=object, Learner=type("Learner", (), {}))
    encoder = nn.Sequential(*list(named("torchvision.models", "resnet18")().children())[:-2])
    return alone("fastai.vision.models.unet", "DynamicUnet")(encoder, 3, (64, 64))


add(
    "fastai.DynamicUnet",
    "fastai",
    2,
    fastai,
    x_rgb,
    [*seq("layers.{}", 4, 8), "layers.11"],
    notes="skips are kept by hooks on the encoder; pixel shuffle; the image is laid beside the last map; a block more",
)
