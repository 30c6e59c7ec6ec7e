"""segmentation_models_pytorch, torchvision, MONAI and nnU-Net."""

import torch
from torch import nn

from published.base import add, named, rand, seq, x2, x3, x_rgb

SMP = "segmentation-models-pytorch"


def smp(A, enc="resnet18", **k):
    return named("segmentation_models_pytorch", A)(enc, encoder_weights=None, classes=4, **k)


D5 = seq("decoder.blocks.{}", 5)
add("smp.Unet-resnet18", SMP, 2, lambda: smp("Unet"), x_rgb, D5)
add("smp.Unet-mobilenetv3(timm)", SMP, 2, lambda: smp("Unet", "tu-mobilenetv3_small_100"), x_rgb, D5)
add(
    "smp.Unet-mit_b0",
    SMP,
    2,
    lambda: smp("Unet", "mit_b0"),
    x_rgb,
    D5,
    notes="transformer encoder; mit has no stride-2 feature (dummy 0-channel skip)",
)
add(
    "smp.Unet-scse-aux",
    SMP,
    2,
    lambda: smp("Unet", decoder_attention_type="scse", aux_params=dict(classes=2, pooling="avg")),
    x_rgb,
    D5,
    "U aux",
    notes="returns (mask, label) tuple; sCSE makes 1x1 pooled and 1-channel maps",
)
add(
    "smp.Unet-depth3",
    SMP,
    2,
    lambda: smp("Unet", encoder_depth=3, decoder_channels=(64, 32, 16)),
    x_rgb,
    seq("decoder.blocks.{}", 3),
)
add(
    "smp.UnetPlusPlus-resnet18", SMP, 2, lambda: smp("UnetPlusPlus"), x_rgb, seq("decoder.blocks.x_0_{}", 5), "U nested"
)
add(
    "smp.Linknet-resnet18",
    SMP,
    2,
    lambda: smp("Linknet"),
    x_rgb,
    D5,
    notes="skip by addition, one full-resolution block without skip",
)
add(
    "smp.FPN-resnet18",
    SMP,
    2,
    lambda: smp("FPN"),
    x_rgb,
    ["decoder.p5", "decoder.p4", "decoder.p3", "decoder.p2"],
    "FPN",
    alts={3: ["decoder"]},
    notes="stages tapped in parallel, seg_blocks bring all to 1/4; logits upsampled x4 by the head",
)
add(
    "smp.FPN-mit_b0",
    SMP,
    2,
    lambda: smp("FPN", "mit_b0"),
    x_rgb,
    ["decoder.p5", "decoder.p4", "decoder.p3", "decoder.p2"],
    "FPN",
    alts={3: ["decoder"]},
)
add(
    "smp.PSPNet-resnet18",
    SMP,
    2,
    lambda: smp("PSPNet"),
    x_rgb,
    ["decoder"],
    "nonU",
    notes="decoder at one resolution (1/8)",
)
add("smp.DeepLabV3-resnet18", SMP, 2, lambda: smp("DeepLabV3"), lambda: (rand(2, 3, 64, 64),), ["decoder"], "nonU")
add(
    "smp.DeepLabV3Plus-resnet18",
    SMP,
    2,
    lambda: smp("DeepLabV3Plus"),
    lambda: (rand(2, 3, 64, 64),),
    ["decoder.aspp", "decoder.block2"],
    "FPN",
    notes="only two scales",
)
add(
    "smp.Segformer-mit_b0",
    SMP,
    2,
    lambda: smp("Segformer", "mit_b0"),
    x_rgb,
    seq("decoder.mlp_stage.{}", 4),
    "nonU parallel",
    notes="no ladder: four projections of encoder features, upsampled to 1/4 and fused",
)
TVP = "torchvision"
add(
    "tv.deeplabv3_mobilenet",
    TVP,
    2,
    lambda: named("torchvision.models.segmentation", "deeplabv3_mobilenet_v3_large")(
        weights=None, weights_backbone=None, aux_loss=True
    ),
    lambda: (rand(2, 3, 64, 64),),
    ["classifier.3"],
    "nonU dict",
    notes="dict {out, aux}; functional interpolate after the head",
)
add(
    "tv.lraspp_mobilenet",
    TVP,
    2,
    lambda: named("torchvision.models.segmentation", "lraspp_mobilenet_v3_large")(weights=None, weights_backbone=None),
    lambda: (rand(2, 3, 64, 64),),
    ["classifier.cbr"],
    "nonU dict",
    notes="logits are the sum of two heads",
)
M = "monai"
N = "monai.networks.nets"
add(
    "monai.UNet-2D-res",
    M,
    2,
    lambda: named(N, "UNet")(2, 1, 3, (8, 16, 32, 64), (2, 2, 2), num_res_units=2),
    x2,
    ["model.1.submodule.1.submodule.2", "model.1.submodule.2", "model.2"],
    notes="nested SkipConnection; the finest stage IS the logits; deepest level has stride 1",
    alts={0: ["model.1.submodule.1"], 1: ["model.1"], 2: ["model.2.0"]},
)
add(
    "monai.UNet-3D-plain",
    M,
    3,
    lambda: named(N, "UNet")(3, 1, 3, (8, 16, 32), (2, 2), num_res_units=0),
    x3,
    ["model.1.submodule.2", "model.2"],
    alts={0: ["model.1"]},
    notes="finest stage is the logits",
)
add(
    "monai.BasicUNet-2D",
    M,
    2,
    lambda: named(N, "BasicUNet")(2, 1, 3, features=(8, 8, 16, 32, 64, 8)),
    x2,
    ["upcat_4", "upcat_3", "upcat_2", "upcat_1"],
)
add(
    "monai.BasicUNet-3D",
    M,
    3,
    lambda: named(N, "BasicUNet")(3, 1, 3, features=(4, 4, 8, 16, 32, 4)),
    x3,
    ["upcat_4", "upcat_3", "upcat_2", "upcat_1"],
)
add(
    "monai.AttentionUnet",
    M,
    2,
    lambda: named(N, "AttentionUnet")(2, 1, 3, (8, 16, 32, 64), (2, 2, 2)),
    x2,
    ["model.1.submodule.1.submodule.1", "model.1.submodule.1", "model.1"],
    notes="recursive nesting: the OUTER module of a level is its stage",
)


def dyn(d, ds, **k):
    return named(N, "DynUNet")(
        d, 1, 3, [3] * 4, [1, 2, 2, 2], [2, 2, 2], deep_supervision=ds, filters=[8, 16, 32, 64], **k
    )


add(
    "monai.DynUNet-2D",
    M,
    2,
    lambda: dyn(2, False),
    x2,
    seq("upsamples.{}", 3),
    notes="skip_layers wrap the same submodules (registered twice); LeakyReLU shared",
)
add(
    "monai.DynUNet-2D-ds",
    M,
    2,
    lambda: dyn(2, True, deep_supr_num=2),
    x2,
    seq("upsamples.{}", 3),
    "U DS",
    notes="training mode: heads upsampled and STACKED in a new dim 1; head outputs kept in self.heads",
)
add(
    "monai.DynUNet-3D-res-ds",
    M,
    3,
    lambda: dyn(3, True, deep_supr_num=1, res_block=True),
    x3,
    seq("upsamples.{}", 3),
    "U DS",
)
add(
    "monai.SegResNet-2D",
    M,
    2,
    lambda: named(N, "SegResNet")(2, 8, 1, 3),
    x2,
    seq("up_layers.{}", 3),
    alts={2: ["act_mod"]},
    notes="skip added by functional + between up_samples and up_layers",
)
add(
    "monai.SegResNet-3D",
    M,
    3,
    lambda: named(N, "SegResNet")(3, 8, 1, 3),
    x3,
    seq("up_layers.{}", 3),
    alts={2: ["act_mod"]},
)
add(
    "monai.SegResNetVAE",
    M,
    3,
    lambda: named(N, "SegResNetVAE")([32, 32, 32], 8, 1, 16, 3, 8, 1, 2),
    x3,
    seq("up_layers.{}", 3),
    "U multi",
    alts={2: ["act_mod"]},
    notes="training mode adds a VAE decoder of the same shapes; output (seg, vae_loss|None)",
)
add(
    "monai.SwinUNETR-3D",
    M,
    3,
    lambda: named(N, "SwinUNETR")(in_channels=1, out_channels=3, feature_size=12, spatial_dims=3, depths=(1, 1, 1, 1)),
    lambda: (rand(1, 1, 64, 64, 64),),
    ["decoder5", "decoder4", "decoder3", "decoder2", "decoder1"],
)
add(
    "monai.SwinUNETR-2D-v2",
    M,
    2,
    lambda: named(N, "SwinUNETR")(
        in_channels=1, out_channels=3, feature_size=12, spatial_dims=2, depths=(1, 1, 1, 1), use_v2=True
    ),
    x2,
    ["decoder5", "decoder4", "decoder3", "decoder2", "decoder1"],
)
add(
    "monai.UNETR-3D",
    M,
    3,
    lambda: named(N, "UNETR")(1, 3, (32, 32, 32), feature_size=4, hidden_size=48, mlp_dim=96, num_heads=4),
    x3,
    ["decoder5", "decoder4", "decoder3", "decoder2"],
    "U vit",
    notes="token encoder; encoder2-4 are themselves upsampling paths (encoder branch increases in resolution)",
)
add(
    "monai.UNETR-2D",
    M,
    2,
    lambda: named(N, "UNETR")(1, 3, (64, 64), feature_size=4, hidden_size=48, mlp_dim=96, num_heads=4, spatial_dims=2),
    x2,
    ["decoder5", "decoder4", "decoder3", "decoder2"],
    "U vit",
)
add(
    "monai.VNet-3D",
    M,
    3,
    lambda: named(N, "VNet")(3, 1, 3),
    x3,
    ["up_tr256", "up_tr128", "up_tr64", "up_tr32"],
    notes="residual add + activation after the conv stack",
)
add(
    "monai.FlexibleUNet",
    M,
    2,
    lambda: named(N, "FlexibleUNet")(1, 3, "efficientnet-b0", decoder_channels=(64, 32, 16, 16, 8), spatial_dims=2),
    x2,
    D5,
    notes="EfficientNet SE blocks pool to 1x1",
)
add(
    "monai.HighResNet",
    M,
    3,
    lambda: named(N, "HighResNet")(3, 1, 3),
    x3,
    ["blocks"],
    "nonU",
    notes="one resolution throughout",
)
add(
    "monai.VoxelMorphUNet",
    M,
    3,
    lambda: named(N, "VoxelMorphUNet")(3, 2, 16, (8, 16, 16, 16), (8, 8)),
    lambda: (rand(1, 2, 32, 32, 32),),
    ["net.0.1.submodule.2.0", "net.1"],
    "U",
    notes="registration net: only the last conv sequence runs at full resolution",
    alts={0: ["net.0.1.submodule.2"]},
)
add(
    "monai.Quicknat",
    M,
    2,
    lambda: named(N, "Quicknat")(3, 1, 8),
    x2,
    ["model.0.dropout_layer#5", "model.0.dropout_layer#6", "model.0.dropout_layer#7", "model.2@[0]"],
    "U",
    notes="every module returns (tensor, indices); one Dropout module shared by all blocks; max-unpool decoder",
)
add(
    "monai.DiffusionModelUNet",
    M,
    2,
    lambda: named(N, "DiffusionModelUNet")(
        2,
        1,
        1,
        num_res_blocks=1,
        channels=(8, 16, 16),
        attention_levels=(False, False, True),
        norm_num_groups=4,
        num_head_channels=8,
    ),
    lambda: (rand(1, 1, 32, 32), torch.tensor([3])),
    ["up_blocks.0.attentions.1", "up_blocks.1.resnets.1", "up_blocks.2"],
    "U time",
    notes="upsampler belongs to the coarser block, so up_blocks.i output already has the next resolution",
    alts={0: ["in:up_blocks.0.upsampler"], 1: ["in:up_blocks.1.upsampler"], 2: ["out.1"]},
)
DN = "dynamic-network-architectures"
DU = "dynamic_network_architectures.architectures.unet"


def nnu(cls, dim, ds):
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dim]
    norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dim]
    k = dict(
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=norm,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=ds,
    )
    k["n_conv_per_stage" if cls == "PlainConvUNet" else "n_blocks_per_stage"] = 2
    return named(DU, cls)(1, 4, (8, 16, 32, 64), conv, 3, (1, 2, 2, 2), num_classes=3, **k)


DS3 = seq("decoder.stages.{}", 3)
add(
    "nnunet.PlainConvUNet-2D",
    DN,
    2,
    lambda: nnu("PlainConvUNet", 2, False),
    x2,
    DS3,
    notes="decoder holds a reference to the encoder (shared submodule, parameters registered twice)",
)
add(
    "nnunet.PlainConvUNet-3D-ds",
    DN,
    3,
    lambda: nnu("PlainConvUNet", 3, True),
    x3,
    DS3,
    "U DS",
    notes="list of logits in eval mode too; low-resolution heads = decoder.seg_layers",
)
add("nnunet.ResidualEncoderUNet-3D-ds", DN, 3, lambda: nnu("ResidualEncoderUNet", 3, True), x3, DS3, "U DS")
add("nnunet.ResidualEncoderUNet-2D", DN, 2, lambda: nnu("ResidualEncoderUNet", 2, False), x2, DS3)
add("nnunet.ResidualUNet-2D", DN, 2, lambda: nnu("ResidualUNet", 2, False), x2, DS3)
