"""The rest of the tenth list: scenes, faces, change, mattes, restoration, diffusion, physics; also written blind."""

import torch
from torch import nn

from published.base import adder, alone, named, rand, seq, x2, x_rgb

add = adder("tenth")
add(
    "backgroundremover.U2NETP",
    "backgroundremover",
    2,
    lambda: named("backgroundremover.u2net.u2net", "U2NETP")(),
    x_rgb,
    ["stage6", "stage5d", "stage4d", "stage3d", "stage2d", "stage1d"],
    "U nested DS",
    notes="blocks are U's themselves; seven probabilities are returned",
)
add(
    "carvekit.BASNet",
    "carvekit",
    2,
    lambda: named("carvekit.ml.arch.basnet.basnet", "BASNet")(3, 1),
    x_rgb,
    [*(f"relu{i}d_2" for i in range(6, 1, -1)), "relu1d_2"],
    "U cascade DS",
    alts={5: ["refunet"]},
    ladders=[[f"refunet.relu_d{i}" for i in (4, 3, 2, 1)]],
    notes="a second U refines the logits",
)
add(
    "embedseg.ERFNet",
    "embedseg",
    2,
    lambda: alone("models.erfnet", "Net")(3, 1),
    x2,
    ["decoder.layers.2", "decoder.layers.5"],
    ladders=[["decoder.layers.2", "decoder.layers.5", "decoder.output_conv"]],
)


def refinenet(file, name):
    block = alone("refinenet.models.blocks", "Bottleneck")
    return alone("refinenet.models." + file, name)(block, [1, 1, 1, 1], 50, 5)


JOINT = "mflow_conv_g{}_b3_joint_varout_dimred"
add(
    "refinenet.RefineNet",
    "refinenet",
    2,
    lambda: refinenet("refinenet", "RefineNet"),
    x_rgb,
    [*seq(JOINT, 1, 4), "mflow_conv_g4_b"],
    "FPN",
    alts={i - 1: [f"mflow_conv_g{i}_b"] for i in (1, 2, 3)},
)
add(
    "refinenet.RefineNetLW",
    "refinenet",
    2,
    lambda: refinenet("refinenet_lw", "RefineNetLW"),
    x_rgb,
    [*seq(JOINT, 1, 4), "mflow_conv_g4_pool"],
    "FPN",
    alts={i - 1: [f"mflow_conv_g{i}_pool"] for i in (1, 2, 3)},
)
add(
    "pixseg.BiSeNet",
    "pixseg",
    2,
    lambda: named("pixseg.models", "bisenet_resnet18")(5, weights_backbone=None),
    lambda: (rand(2, 3, 64, 64),),
    ["ffm"],
    "nonU",
    notes="context is brought to 1/8 and joined there",
)
add(
    "pixseg.SFNet",
    "pixseg",
    2,
    lambda: named("pixseg.models", "sfnet_resnet18")(5, weights_backbone=None),
    lambda: (rand(2, 3, 64, 64),),
    ["neck", "head.fpn_outs.layer3", "head.fpn_outs.layer2", "head.fpn_outs.layer1"],
    "FPN",
    alts={i: [f"in:head.fpn_outs.layer{4 - i}"] for i in (1, 2)}
    | {3: ["in:head.fpn_outs.layer1", "head.final_conv.0"]},
)
add(
    "pixseg.UperNet",
    "pixseg",
    2,
    lambda: named("pixseg.models", "upernet_resnet18")(5, weights_backbone=None),
    lambda: (rand(2, 3, 64, 64),),
    seq("head.fpn_exits.layer{}", 4, 0, -1),
    "FPN",
    alts={3: ["head.final_conv.0"]},
)
add(
    "pixseg.ENet",
    "pixseg",
    2,
    lambda: named("pixseg.models.enet", "ENet")(5),
    x_rgb,
    ["section4_convs", "section5_convs"],
    ladders=[["section4_convs", "section5_convs", "head"]],
)


class Chain(nn.Module):
    """An encoder that returns all its levels, and the decoder that takes them."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x):
        return self.decoder(self.encoder(x, return_feature_maps=True))


def semseg(decoder, **more):
    parts = named("mit_semseg.models.models", "Resnet"), named("mit_semseg.models.resnet", "resnet18")
    return Chain(parts[0](parts[1](pretrained=False)), named("mit_semseg.models.models", decoder)(5, 512, **more))


add(
    "mit_semseg.UPerNet",
    "mit-semseg",
    2,
    lambda: semseg("UPerNet", fpn_inplanes=(64, 128, 256, 512), fpn_dim=32),
    lambda: (rand(2, 3, 64, 64),),
    ["decoder.ppm_last_conv", "decoder.fpn_out.2", "decoder.fpn_out.1", "decoder.fpn_out.0"],
    "FPN",
    alts={3: ["decoder.conv_last.0"]},
    notes="log-probabilities",
)
add(
    "mit_semseg.C1DeepSup",
    "mit-semseg",
    2,
    lambda: semseg("C1DeepSup"),
    lambda: (rand(2, 3, 64, 64),),
    ["decoder.cbr"],
    "nonU",
)


DRAW = "deepdraw.models."
add("deepdraw.unet", "deepdraw", 2, lambda: named(DRAW + "unet", "unet")(False), x_rgb, seq("head.decode{}", 4, 0, -1))
add(
    "deepdraw.m2unet",
    "deepdraw",
    2,
    lambda: named(DRAW + "m2unet", "m2unet")(False),
    x_rgb,
    seq("head.decode{}", 4, 0, -1),
    notes="the last block makes the logits",
)
add("deepdraw.lunet", "deepdraw", 2, lambda: named(DRAW + "lwnet", "lunet")(), x_rgb, seq("up_path.{}", 2))
add(
    "deepdraw.lwnet",
    "deepdraw",
    2,
    lambda: named(DRAW + "lwnet", "lwnet")(),
    x_rgb,
    seq("unet2.up_path.{}", 2),
    "U cascade",
    ladders=[seq("unet1.up_path.{}", 2)],
    notes="two U's; the logits of both are returned",
)
add(
    "deepdraw.driu",
    "deepdraw",
    2,
    lambda: named(DRAW + "driu", "driu")(False),
    x_rgb,
    ["head.conv1_2_16"],
    "nonU parallel",
    notes="side maps of the encoder, brought to full size and joined",
)


def hooked():
    encoder = named("dynamic_unet.encoder", "resnet18")(pretrained=False)
    return named("dynamic_unet.unet", "DynamicUNet")(encoder, (128, 128), 3)


add(
    "dynamic_unet.DynamicUNet",
    "dynamic-unet",
    2,
    hooked,
    lambda: (rand(2, 3, 128, 128),),
    ["in:decoder.1.4", "in:decoder.2.4", "in:decoder.3.4", "decoder.4.4"],
    "U hooks",
    alts={0: ["decoder.1.3"], 1: ["decoder.2.3"], 2: ["decoder.3.3"], 3: ["in:decoder.4.5"]},
    notes="hooks put up in forward; each level ends before the convolution that goes up",
)
add(
    "pyunwrap.AmbiguityNet",
    "pyunwrap-insar",
    2,
    lambda: named("pyunwrap.models.ambiguity_net", "AmbiguityNet")(pretrained=False),
    x_rgb,
    seq("dec{}", 4, -1, -1),
    "U multi",
    notes="a tuple of integers, their continuous form, and others",
)
add(
    "azula.UNet",
    "azula",
    2,
    lambda: named("azula.nn.unet", "UNet")(3, 3, hid_channels=(16, 32, 48), hid_blocks=(1, 1, 1)),
    x_rgb,
    ["ascent.1.1", "ascent.2.1"],
)
add(
    "bit_diffusion.Unet",
    "bit-diffusion",
    2,
    lambda: named("bit_diffusion.bit_diffusion", "Unet")(8, dim_mults=(1, 2, 4)),
    lambda: (rand(1, 24, 32, 32), torch.tensor([3.0])),
    ["ups.0.2", "ups.1.2", "final_res_block"],
    "U time",
    alts={2: ["ups.2.2", "ups.2.3"]},
)


add(
    "score_models.DDPM",
    "score-models",
    2,
    lambda: alone("score_models.architectures.ddpm", "DDPM")(1, nf=8, ch_mult=(1, 2, 4), num_res_blocks=1),
    lambda: (torch.tensor([0.5]), rand(1, 1, 32, 32)),
    ["all_modules.13", "all_modules.16", "all_modules.19"],
    "U time",
    notes="time comes first; all modules in one list",
)
add(
    "x_unet.XUnet",
    "x-unet",
    2,
    lambda: named("x_unet", "XUnet")(
        8,
        dim_mults=(1, 2, 4),
        num_blocks_per_stage=(1, 1, 1),
        num_self_attn_per_stage=(0, 0, 1),
        nested_unet_depths=(0, 0, 0),
    ),
    x_rgb,
    ["in:ups.0.3", "in:ups.1.3", "final_conv.0"],
    ladders=[["mid_after", "in:ups.0.3", "in:ups.1.3", "final_conv.0"]],
    notes="images are films of one frame inside; all levels are joined at the end",
)
add(
    "patchgan.UNet",
    "patchgan",
    2,
    lambda: named("patchgan.unet", "UNet")(3, 3, 4),
    lambda: (rand(2, 3, 256, 256),),
    seq("decoder.{}", 7),
    alts={i: [f"in:decoder.{i + 1}"] for i in range(6)},
    notes="a skip is laid beside a level, which goes up",
)
add(
    "specunet.UNet",
    "specunet-pkg",
    2,
    lambda: named("specunet_pkg.models", "UNet")(1, 3, 8),
    x2,
    seq("channel_reducers.{}", 3),
)
add(
    "speech_denoiser.UNet",
    "speech-denoiser",
    2,
    lambda: alone("speech_denoiser.model", "UNet")(),
    lambda: (rand(1, 2, 64, 64),),
    seq("up{}", 1, 5),
    "U denoise",
)
add(
    "cleanunet.CleanUNet",
    "cleanunet",
    1,
    lambda: named("cleanunet.network", "CleanUNet")(
        channels_H=8, max_H=32, encoder_n_layers=4, tsfm_n_layers=1, tsfm_n_head=2, tsfm_d_model=16, tsfm_d_inner=32
    ),
    lambda: (rand(1, 1, 512),),
    seq("decoder.{}", 4),
    "U denoise",
    alts={i: [f"in:decoder.{i + 1}"] for i in range(3)},
    notes="the input is divided in place; skips are added in place",
)
add(
    "neuralop.UNO",
    "neuraloperator",
    2,
    lambda: named("neuralop.models", "UNO")(
        3,
        3,
        8,
        lifting_channels=16,
        projection_channels=16,
        uno_out_channels=[8, 16, 16, 16, 8],
        channel_mlp_skip="linear",
        uno_n_modes=[[6, 6]] * 5,
        uno_scalings=[[0.5, 0.5], [0.5, 0.5], [1, 1], [2, 2], [2, 2]],
        n_layers=5,
    ),
    x_rgb,
    ["fno_blocks.3", "fno_blocks.4"],
    "U fourier",
    alts={0: ["in:fno_blocks.4"]},
    ladders=[["fno_blocks.2", "fno_blocks.3", "fno_blocks.4"]],
)
