"""The rest of the list of 29 November 2026, also blind: sound, earthquakes, cells, pictures made of noise."""

import collections
from typing import ClassVar

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-2")
add(
    "phasenet.UNet2018",
    "phasenet",
    2,
    lambda: alone("phasenet.models.unet2018", "UNet2018")(4),
    lambda: (rand(1, 3, 1, 1024),),
    ["in:up_conv0.1", "in:up_conv0.2", "in:output_conv"],
    "U signal",
    notes="one long axis; activations are functions; cropped after going up; a dict of logits",
)
add(
    "phasenet.Unet",
    "phasenet",
    2,
    lambda: alone("phasenet.models.unet", "Unet")(dim=8, dim_mults=(1, 2, 4), attn_heads=2, attn_dim_head=8),
    lambda: (rand(1, 3, 2, 1024),),
    ["ups.0.2", "ups.1.2", "ups.2.2", "final_res_block"],
    "U signal",
    notes="skips at the bottleneck too; pixels are shuffled along one axis; a dict of logits",
)
add(
    "svc_toolkit.UNet",
    "svc-toolkit",
    2,
    lambda: alone("svc_toolkit.separation.models", "UNet")(2),
    lambda: (rand(1, 2, 128, 128),),
    seq("up{}", 1, 7),
    "U audio",
    alts={5: [""]},
    notes="a skip is laid beside each level, and both go up at once; maps are cropped after going up",
)
add(
    "voicefixer.UNetResComplex_100Mb",
    "voicefixer",
    2,
    lambda: alone("voicefixer.restorer.model_kqq_bn", "UNetResComplex_100Mb")(1),
    lambda: (rand(1, 1, 64, 128),),
    [*seq("decoder_block{}", 1, 6), "after_conv_block1"],
    "U audio",
    notes="pre-activation blocks; padded and cropped; a dict",
)
add(
    "ngan.SuperResolver",
    "ngan",
    1,
    lambda: alone("ngan.model", "SuperResolver")(4).resolve,
    lambda: (rand(1, 1, 480),),
    ["8", "9", "10"],
    "U noskip audio",
    notes="goes down by 6, 4 and 2 and up likewise; no skips",
)


class Waveform(nn.Module):
    """The networks' base without what loads, cuts and stacks records."""

    _annotate_args: ClassVar = collections.defaultdict(lambda: ("", 0))

    def __init__(self, **_ignored):
        super().__init__()


def seisbench(file, name, **more):
    loose("seisbench.models.base", WaveformModel=Waveform)
    loose("seisbench.util")
    return alone("seisbench.models." + file, name)(**more)


add(
    "seisbench.PhaseNet",
    "seisbench",
    1,
    lambda: seisbench("phasenet", "PhaseNet"),
    lambda: (rand(1, 3, 3001),),
    ["in:up_branch.1.0", "in:up_branch.2.0", "in:up_branch.3.0", "in:out"],
    "U signal",
    notes="activations are functions; padded and cropped by hand; returns probabilities",
)
add(
    "seisbench.Skynet",
    "seisbench",
    1,
    lambda: seisbench("skynet", "Skynet"),
    lambda: (rand(1, 3, 1328),),
    [f"in:dconv{i}" for i in (1, 3, 5, 7, 9)],
    "U signal",
    notes="activations are functions; a nought is laid at the end of a level after going up",
)
add(
    "seisbench.DeepDenoiser",
    "seisbench",
    2,
    lambda: seisbench("deepdenoiser", "DeepDenoiser"),
    lambda: (rand(1, 2, 31, 201),),
    seq("up_conv_blocks.{}", 5),
    "U denoise",
    notes="sizes are odd; returns probabilities",
)
CELLS = "cellseg_models_pytorch.models."
SMALL = dict(enc_name="resnet18", enc_pretrain=False, depth=4, out_channels=(64, 32, 16, 8))


def cells(file, name, *given):
    loose("mpire")
    return alone(CELLS + file, name)(*given, **SMALL)


add(
    "cellseg.StarDistUnet",
    "cellseg-models-pytorch",
    2,
    lambda: cells("stardist.stardist_unet", "stardist_nuclei", 8, 3),
    x_rgb,
    seq("decoder.stardist_decoder.decoder_stage{}", 1, 5),
    "U heads",
    notes="three heads on one decoder; a dict of structures",
)


def pix2pix():
    loose("pl_bolts.utils.stability", under_review=lambda: lambda made: made)
    return alone("pl_bolts.models.gans.pix2pix.components", "Generator")(3, 3)


add(
    "pl_bolts.pix2pix-Generator",
    "lightning-bolts",
    2,
    pix2pix,
    lambda: (rand(1, 3, 256, 256),),
    [*seq("decoders.{}", 7), "final_conv"],
    "U gan",
    alts={7: ["tanh"]},
    notes="a skip is laid beside each level, and both go up at once; the bottleneck has one pixel",
)
add(
    "labml_nn.ddpm-UNet",
    "labml-nn",
    2,
    lambda: alone("labml_nn.diffusion.ddpm.unet", "UNet")(3, 32, (1, 2, 2), (False, False, True), 1),
    lambda: (rand(1, 3, 32, 32), torch.tensor([3.0])),
    ["up.1", "up.4", "up.7"],
    "U time",
    notes="skips at the bottleneck too; all modules in one list",
)
add(
    "torchdiff.DiffusionNetwork",
    "torchdiff",
    2,
    lambda: alone("utils.diff_net", "DiffusionNetwork")(
        3, [16, 32, 48, 64], [64, 64], [64, 48, 32, 16], [True] * 3, 16, 16, 1, 1, 1
    ),
    lambda: (rand(1, 3, 32, 32), torch.tensor([3.0]), rand(1, 16)),
    seq("decoder.{}.block", 3),
    "U time cond",
)
add(
    "uformer.Uformer",
    "uformer-pytorch",
    2,
    lambda: named("uformer_pytorch", "Uformer")(8, stages=3, num_blocks=1, window_size=4, dim_head=8, heads=2),
    x_rgb,
    seq("ups.{}.1", 2, -1, -1),
    "U vit restoration",
    notes="the skip is what the attention looks at",
)
add(
    "make_a_video.SpaceTimeUnet",
    "make-a-video-pytorch",
    3,
    lambda: named("make_a_video_pytorch", "SpaceTimeUnet")(
        dim=8,
        dim_mult=(1, 2, 4),
        self_attns=(False, False, True),
        temporal_compression=(False, True, True),
        resnet_block_depths=(1, 1, 1),
        attn_dim_head=8,
        attn_heads=2,
        condition_on_timestep=False,
    ),
    lambda: (rand(1, 3, 4, 32, 32),),
    ["ups.2.2", "ups.1.1.0", "ups.0.1.0"],
    notes="time goes up on two of the levels",
)
