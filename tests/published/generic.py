"""transformers, diffusers, and some smaller packages."""

import torch

from published.base import add, named, rand, seq, x_rgb

T = "transformers"


def hf(cls, cfg, **k):
    return named(T, cls)(named(T, cfg)(**k))


MITK = dict(num_labels=5, depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 2, 4])


def swin():
    return named(T, "SwinConfig")(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 2, 4],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def cnx():
    return named(T, "ConvNextConfig")(
        depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], out_features=["stage1", "stage2", "stage3", "stage4"]
    )


add(
    "hf.Segformer",
    T,
    2,
    lambda: hf("SegformerForSemanticSegmentation", "SegformerConfig", decoder_hidden_size=32, **MITK),
    x_rgb,
    ["in:decode_head.linear_fuse"],
    "nonU parallel",
    notes="MLP head on tokens, reshape + F.interpolate to 1/4 then fuse; ModelOutput; logits at 1/4",
)
add(
    "hf.UperNet-ConvNext",
    T,
    2,
    lambda: hf(
        "UperNetForSemanticSegmentation",
        "UperNetConfig",
        backbone_config=cnx(),
        num_labels=5,
        hidden_size=32,
        auxiliary_in_channels=48,
        auxiliary_channels=16,
        use_auxiliary_head=True,
    ),
    x_rgb,
    ["decode_head.bottleneck", "decode_head.fpn_convs.2", "decode_head.fpn_convs.1", "decode_head.fpn_convs.0"],
    "FPN",
    alts={3: ["decode_head.fpn_bottleneck"]},
    notes="top-down adds are functional; aux FCN head runs in eval too",
)
add(
    "hf.UperNet-Swin",
    T,
    2,
    lambda: hf(
        "UperNetForSemanticSegmentation",
        "UperNetConfig",
        backbone_config=swin(),
        num_labels=5,
        hidden_size=32,
        auxiliary_in_channels=64,
        auxiliary_channels=16,
        use_auxiliary_head=True,
    ),
    x_rgb,
    ["decode_head.bottleneck", "decode_head.fpn_convs.2", "decode_head.fpn_convs.1", "decode_head.fpn_convs.0"],
    "FPN",
    alts={3: ["decode_head.fpn_bottleneck"]},
)
add(
    "hf.Beit",
    T,
    2,
    lambda: hf(
        "BeitForSemanticSegmentation",
        "BeitConfig",
        image_size=64,
        patch_size=16,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        out_indices=[1, 2, 3, 4],
        num_labels=5,
        use_auxiliary_head=True,
        auxiliary_channels=16,
    ),
    x_rgb,
    ["decode_head.psp_bottleneck", "decode_head.fpn_convs.2", "decode_head.fpn_convs.1", "decode_head.fpn_convs.0"],
    "FPN vit",
    alts={3: ["decode_head.fpn_bottleneck"]},
)
add(
    "hf.MobileViT-DeepLabV3",
    T,
    2,
    lambda: hf(
        "MobileViTForSemanticSegmentation",
        "MobileViTConfig",
        image_size=64,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 32],
        num_attention_heads=2,
        aspp_out_channels=16,
        num_labels=5,
    ),
    lambda: (rand(2, 3, 64, 64),),
    ["segmentation_head.aspp"],
    "nonU",
)
add(
    "hf.Mask2Former",
    T,
    2,
    lambda: hf(
        "Mask2FormerForUniversalSegmentation",
        "Mask2FormerConfig",
        backbone_config=swin(),
        num_labels=5,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=32,
        num_queries=6,
    ),
    x_rgb,
    [
        "model.pixel_level_module.decoder@[multi_scale_features][0]",
        "model.pixel_level_module.decoder@[multi_scale_features][1]",
        "model.pixel_level_module.decoder@[multi_scale_features][2]",
        "model.pixel_level_module.decoder@[mask_features]",
    ],
    "FPN query",
    notes="deformable attention on flattened multi-scale tokens; query masks, not class logits",
)
add(
    "hf.MaskFormer",
    T,
    2,
    lambda: hf(
        "MaskFormerForInstanceSegmentation",
        "MaskFormerConfig",
        backbone_config=swin(),
        decoder_config=named(T, "DetrConfig")(
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            decoder_ffn_dim=32,
            encoder_ffn_dim=32,
            num_queries=6,
        ),
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=5,
    ),
    x_rgb,
    ["model.pixel_level_module.decoder.fpn.stem", *seq("model.pixel_level_module.decoder.fpn.layers.{}", 3)],
    "FPN query",
)
DF = "diffusers"
add(
    "diffusers.UNet2DModel",
    DF,
    2,
    lambda: named(DF, "UNet2DModel")(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    ),
    lambda: (rand(1, 3, 32, 32), torch.tensor(3)),
    ["up_blocks.0.attentions.1", "up_blocks.1.resnets.1", "up_blocks.2"],
    "U time",
    notes="upsampler inside the coarser block; needs a timestep",
    alts={0: ["in:up_blocks.0.upsamplers.0"], 1: ["in:up_blocks.1.upsamplers.0"], 2: ["conv_act"]},
)
add(
    "diffusers.UNet2DConditionModel",
    DF,
    2,
    lambda: named(DF, "UNet2DConditionModel")(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
    ),
    lambda: (rand(1, 4, 32, 32), torch.tensor(3), rand(1, 5, 16)),
    ["up_blocks.0.resnets.1", "up_blocks.1"],
    "U time",
    alts={1: ["conv_act"]},
    notes="three inputs",
)
add(
    "diffusers.UNet3DConditionModel",
    DF,
    3,
    lambda: named(DF, "UNet3DConditionModel")(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=16,
        attention_head_dim=4,
    ),
    lambda: (rand(1, 4, 3, 16, 16), torch.tensor(3), rand(1, 5, 16)),
    ["in:up_blocks.0.upsamplers.0", "up_blocks.1"],
    "U time video",
    notes="frames folded into the batch inside: feature batch = frames, layout (B*F,C,H,W)",
)
D5 = seq("decoder.blocks.{}", 5)
add(
    "smp3d.Unet",
    "segmentation-models-pytorch-3d",
    3,
    lambda: named("segmentation_models_pytorch_3d", "Unet")("resnet18", encoder_weights=None, in_channels=1, classes=2),
    lambda: (rand(1, 1, 64, 64, 64),),
    D5,
)
add(
    "smp3d.UnetPlusPlus",
    "segmentation-models-pytorch-3d",
    3,
    lambda: named("segmentation_models_pytorch_3d", "UnetPlusPlus")(
        "resnet18", encoder_weights=None, in_channels=1, classes=2
    ),
    lambda: (rand(1, 1, 64, 64, 64),),
    seq("decoder.blocks.x_0_{}", 5),
    "U nested",
)
add(
    "deepinv.UNet",
    "deepinv",
    2,
    lambda: named("deepinv.models", "UNet")(3, 3, scales=3, channels_per_scale=[8, 16, 32]),
    x_rgb,
    ["Up_conv3", "Up_conv2"],
)
add(
    "deepinv.DRUNet",
    "deepinv",
    2,
    lambda: named("deepinv.models", "DRUNet")(3, 3, nc=(8, 16, 32, 64), nb=1, pretrained=None),
    lambda: (rand(1, 3, 64, 64), torch.tensor(0.1)),
    ["m_up3", "m_up2", "m_up1"],
    "U",
    notes="skip by functional add before each up block; input concatenated with a noise map",
)
add(
    "torchgeo.FCSiamDiff",
    "torchgeo",
    2,
    lambda: named("torchgeo.models", "FCSiamDiff")("resnet18", encoder_weights=None, in_channels=3, classes=2),
    lambda: (rand(1, 2, 3, 64, 64),),
    D5,
    "U rank-change",
    notes="5-D input (B,T,C,H,W) with 4-D features; encoder called twice",
)
