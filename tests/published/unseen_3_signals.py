"""The rest of the third list, also blind: restoration, pictures made of noise, sound, weather, fields, volumes."""

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-3")
add(
    "dblur.NAFNet",
    "dblur",
    2,
    lambda: alone("dblur.models.nafnet", "NAFNet")(8, [1, 1, 1], 1, [1, 1, 1]),
    x_rgb,
    seq("decoders.{}", 3),
    "U restoration",
    notes="skips are added before each block; the image is added to the output",
)
add(
    "dblur.Restormer",
    "dblur",
    2,
    lambda: alone("dblur.models.restormer", "Restormer")(
        num_transformer_blocks=[1] * 4, heads=[1, 2, 4, 8], channels=[16, 32, 64, 128], num_refinement_blocks=1
    ),
    x_rgb,
    ["decoders.0", "decoders.1", "refinement_block"],
    "U vit restoration",
    notes="two blocks at full size; the image is added to the output",
)
add(
    "vsscunet.SCUNet",
    "vsscunet",
    2,
    lambda: alone("vsscunet.network_scunet", "SCUNet")(3, [1] * 7, input_resolution=64),
    x_rgb,
    seq("m_up{}", 3, 0, -1),
    "U vit denoise",
    ladders=[["m_body", *seq("m_up{}", 3, 0, -1)]],
    notes="skips are added by the parent and the sums go up at once, at the bottleneck too",
)
add(
    "autoden.UNet-3D",
    "auto-denoise",
    3,
    lambda: alone("autoden.models.unet", "UNet")(1, 3, n_features=8, n_dims=3, device="cpu"),
    x3,
    seq("decoder_layers.{}", 3),
    "U denoise",
)


def denoisers(kind, name, **more):
    loose("transformers", PreTrainedModel=nn.Module)
    loose(f"denoisers.modeling.{kind}.config")
    return alone(f"denoisers.modeling.{kind}.model", name)((16, 24, 32, 40), **more)


def sound():
    return (rand(1, 1, 1024),)


add(
    "denoisers.UNet1D",
    "denoisers",
    1,
    lambda: denoisers("unet1d", "UNet1D", num_groups=8),
    sound,
    [*seq("decoder_layers.{}.res_block", 3), "decoder_layers.2"],
    "U audio",
    notes="skips are added before each block, at the bottleneck too; a block ends going up; the input is merged last",
)
add(
    "denoisers.WaveUNet",
    "denoisers",
    1,
    lambda: denoisers("waveunet", "WaveUNet"),
    sound,
    ["middle", *seq("decoder_layers.{}", 3)],
    "U audio",
    ladders=[seq("decoder_layers.{}", 3)],
    notes="a skip is laid beside each level, the bottleneck too, and both go up at once",
)


def cascade():
    loose("audio_separator.separator.uvr_lib_v5.spec_utils", crop_center=lambda skip, _: skip)
    make = alone("audio_separator.separator.uvr_lib_v5.vr_network.nets", "CascadedASPPNet")
    bands = [(2, 8), (2, 8), (10, 4, 1, 1, 0), (4, 8), (18, 8, 1, 1, 0), (8, 16), (16, 2, 1), (8, 2, 1), (8, 2, 1)]
    return make(128, bands, 123821)


LAST = "stg3_full_band_net."
add(
    "audio_separator.CascadedASPPNet",
    "audio-separator",
    2,
    cascade,
    lambda: (rand(1, 2, 65, 64),),
    [LAST + "aspp", *seq(LAST + "dec{}.conv.conv", 4, 0, -1)],
    "U cascade audio",
    notes="four U's, two side by side; the modules' __call__ is overridden; ASPP; padded at the end",
)
add(
    "aura_sr.UnetUpsampler",
    "aura-sr",
    2,
    lambda: alone("aura_sr", "UnetUpsampler")(
        16,
        image_size=64,
        input_image_size=32,
        style_network=dict(dim_in=16, dim_out=16, depth=2),
        up_dim_mults=(1, 2, 4),
        down_dim_mults=(2, 4),
        full_attn=(False,) * 3,
        attn_depths=(1,) * 3,
        mid_attn_depth=1,
        flash_attn=False,
    ),
    lambda: (rand(1, 3, 32, 32),),
    ["ups.0.0.5", "ups.1.0.5", "final_res_block"],
    "U gan restoration",
    notes="noise is added; kernels are modulated; goes up further than it went down",
)


def noise():
    return rand(1, 3, 32, 32), torch.tensor([3.0])


add(
    "smalldiffusion.Unet",
    "smalldiffusion",
    2,
    lambda: named("smalldiffusion.model_unet", "Unet")(32, 3, 3, 32, (1, 2, 2), 4, 1, (16,)),
    noise,
    seq("ups.{}.blocks.1", 3),
    "U time",
    notes="skips at the bottleneck too",
)
add(
    "dmme.UNet",
    "dmme",
    2,
    lambda: alone("dmme.models.ddpm", "UNet")(3, 32, 64, 32, 0.0, (32, 64, 64), 1, (2,)),
    noise,
    ["up_layers.1", "up_layers.4", "up_layers.7"],
    "U time",
    notes="skips at the bottleneck too; all modules in one list",
)
add(
    "torchcfm.UNetModelWrapper",
    "torchcfm",
    2,
    lambda: alone("torchcfm.models.unet.unet", "UNetModelWrapper")(
        (3, 32, 32), 32, 1, channel_mult=(1, 2, 2), attention_resolutions="16"
    ),
    lambda: noise()[::-1],
    ["output_blocks.1.0", "output_blocks.3.1", "output_blocks.5"],
    "U time",
    notes="skips at the bottleneck too; the time comes first; the last layer begins at nought",
)
add(
    "mediffusion.UNetModel-3D",
    "mediffusion",
    3,
    lambda: alone("mediffusion.models.unet", "UNetModel")(16, 1, 32, 1, (1, 1, 1), (), dims=3, channel_mult=(1, 2, 2)),
    lambda: (rand(1, 1, 16, 16, 16), torch.tensor([3.0])),
    ["output_blocks.1.0", "output_blocks.3.0", "output_blocks.5"],
    "U time",
    notes="skips at the bottleneck too; the last layer begins at nought",
)
add(
    "tiny_diff.UNet",
    "tiny-diff",
    2,
    lambda: named("tiny_diff.models.unet.model", "UNet")(
        base_channels=64, channel_mult=[1, 1, 1], n_res_blocks=1, kernel_size=3, attn_at_layer=[False] * 3
    ),
    noise,
    seq("up.{}.blocks.1", 3),
    "U time",
    notes="skips at the bottleneck too; the layers' forward is replaced",
)


def voxelmorph():
    loose("voxelmorph.py")
    return named("voxelmorph.nn.models", "VxmPairwise")(3, 1, 1, (8, 8, 16))


add(
    "voxelmorph.VxmPairwise",
    "voxelmorph",
    3,
    voxelmorph,
    lambda: (rand(1, 1, 32, 32, 32), rand(1, 1, 32, 32, 32)),
    seq("model.upsampling_conv_blocks.{}", 3),
    "U registration",
    alts={2: ["model.out_layer"]},
    notes="a field of displacements, added up in steps; grids are kept as attributes",
)


def crossformer():
    loose("credit.models.base_model", BaseModel=nn.Module)
    loose("credit.postblock", __path__=[])
    loose("credit.postblock.gen1")
    loose("credit.boundary_padding")
    return alone("credit.models.crossformer", "CrossFormer")(
        image_height=32,
        image_width=64,
        channels=1,
        surface_channels=2,
        input_only_channels=1,
        levels=2,
        dim=(16, 32, 64, 128),
        depth=(1, 1, 1, 1),
        dim_head=16,
        global_window_size=(2, 2, 2, 1),
        local_window_size=2,
        cross_embed_kernel_sizes=((4,), (2, 4), (2, 4), (2, 4)),
        cross_embed_strides=(2, 2, 2, 2),
    )


UPS = seq("up_block{}", 1, 5)
add(
    "miles_credit.CrossFormer",
    "miles-credit",
    2,
    crossformer,
    lambda: (rand(1, 5, 2, 32, 64),),
    UPS,
    "U vit weather",
    ladders=[UPS[:3]],
    notes="a skip is laid beside each level, and both go up at once; a transposed convolution makes the output; films",
)
add(
    "climate_learn.Unet",
    "climate-learn",
    2,
    lambda: alone("climate_learn.models.hub.unet", "Unet")(4, 2, hidden_channels=16, ch_mults=(1, 2, 2), n_blocks=1),
    lambda: (rand(1, 4, 32, 64),),
    ["up.1", "up.4", "up.7"],
    "U weather",
    notes="skips at the bottleneck too; all modules in one list; convolutions go round the globe",
)
add(
    "atomai.Unet",
    "atomai",
    2,
    lambda: alone("atomai.nets.fcnn", "Unet")(3, 8),
    x2,
    ["c4", "c5", "c6"],
)
add(
    "atomai.SegResNet",
    "atomai",
    2,
    lambda: alone("atomai.nets.fcnn", "SegResNet")(3, 8),
    x2,
    ["c3", "c4"],
)
add(
    "dlsia.TUNet",
    "dlsia",
    2,
    lambda: alone("dlsia.core.networks.tunet", "TUNet")((64, 64), 1, 3, 4, 8),
    x2,
    ["Decode_2", "Decode_1", "in:Decode_0.6"],
    alts={2: ["Decode_0"]},
    notes="one activation for all; maps are kept as attributes; the last block makes the logits",
)
add(
    "deepliif.AttU_Net",
    "deepliif",
    2,
    lambda: alone("deepliif.models.att_unet", "AttU_Net")(3, 3),
    lambda: (rand(1, 3, 256, 256),),
    seq("Up{}", 8, 0, -1),
    "U gan",
    alts={7: ["Up1.up.0"]},
    notes="gated skips are laid beside each level, and both go up at once; the bottleneck has one pixel",
)
add(
    "oct_vesselseg.SegNet",
    "oct-vesselseg",
    3,
    lambda: vessels(),
    x3,
    ["1.decoder.1.conv", "1.decoder.2.conv", "1.decoder.3"],
    alts={0: ["1.decoder.1.up.conv"], 1: ["1.decoder.2.up.conv"]},
    notes="a block's parts are called, not the block; going up begins with a convolution",
)


def vessels():
    for name in ("losses", "train", "synth"):
        loose("oct_vesselseg." + name)
    alone("cornucopia.utils.warps", "upsample")
    options = dict(nb_levels=4, nb_features=[8, 16, 24, 32])
    return alone("oct_vesselseg.models", "SegNet")(3, 1, 3, kwargs_backbone=options)


def rdcnet():
    for name in ("embedding_loss", "lovasz_losses", "lovasz_losses_3d"):
        loose("pytorch_rdc_net." + name, InstanceEmbeddingLoss2d=nn.Identity, InstanceEmbeddingLoss3d=nn.Identity)
    loose("torchist")
    loose("pytorch_rdc_net.matching")
    return alone("pytorch_rdc_net.generic_model", "RDCNet")(
        2, down_sampling_factor=(4, 4), channels_per_group=8, steps=2
    )


add(
    "rdc_net.RDCNet",
    "pytorch-rdc-net",
    2,
    rdcnet,
    x2,
    ["in:out_conv"],
    "nonU",
    notes="one resolution, again and again; a transposed convolution makes the logits",
)
