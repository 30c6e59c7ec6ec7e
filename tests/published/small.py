"""Smaller packages."""

import torch

from published.base import add, named, rand, seq, x2, x3, x_rgb

D5 = seq("decoder.blocks.{}", 5)
add(
    "unet.UNet2D",
    "unet",
    2,
    lambda: named("unet", "UNet2D")(1, 2, num_encoding_blocks=4, out_channels_first_layer=8, padding=1),
    x2,
    seq("decoder.decoding_blocks.{}", 3),
)
add(
    "unet.UNet2D-valid",
    "unet",
    2,
    lambda: named("unet", "UNet2D")(1, 2, num_encoding_blocks=3, out_channels_first_layer=8),
    lambda: (rand(1, 1, 92, 92),),
    seq("decoder.decoding_blocks.{}", 2),
    "U valid",
    notes="no padding: skips cropped by negative padding, sizes shrink inside a stage",
)
add(
    "unet.UNet3D-linear",
    "unet",
    3,
    lambda: named("unet", "UNet3D")(
        1, 2, num_encoding_blocks=3, out_channels_first_layer=8, padding=1, upsampling_type="linear"
    ),
    x3,
    seq("decoder.decoding_blocks.{}", 2),
)
add(
    "unet.UNet1D",
    "unet",
    1,
    lambda: named("unet", "UNet1D")(1, 2, num_encoding_blocks=4, out_channels_first_layer=8, padding=1),
    lambda: (rand(1, 1, 128),),
    seq("decoder.decoding_blocks.{}", 3),
    notes="1-D",
)
P3 = "pytorch3dunet.unet3d.model"
DC3 = seq("decoders.{}", 3)
add("pytorch3dunet.UNet3D", "pytorch3dunet", 3, lambda: named(P3, "UNet3D")(1, 2, f_maps=8, num_groups=4), x3, DC3)
add(
    "pytorch3dunet.ResidualUNetSE3D",
    "pytorch3dunet",
    3,
    lambda: named(P3, "ResidualUNetSE3D")(1, 2, f_maps=8, num_groups=4, num_levels=4),
    x3,
    DC3,
    notes="odd transposed conv sizes (7,15,31) then interpolate; scSE 1x1 maps",
)
add(
    "pytorch3dunet.UNet2D",
    "pytorch3dunet",
    2,
    lambda: named(P3, "UNet2D")(1, 2, f_maps=8, num_groups=4, num_levels=4),
    x2,
    DC3,
)
add(
    "convnext_unet.ConvNeXtUnet",
    "convnext-unet",
    2,
    lambda: named("convnext_unet", "ConvNeXtUnet")(3, "convnext_tiny"),
    x_rgb,
    seq("unet_decoder.up{}", 1, 5),
    notes="last Up maps straight to num_classes (finest stage is the logits) and zero-pads 32 to 64 (upstream quirk)",
)
add(
    "effunet.EffUNet",
    "effunet",
    2,
    lambda: named("effunet.effunet", "EffUNet")("b0", 3, pretrained=False, freeze_backbone=False, device="cpu"),
    x_rgb,
    seq("decoder.{}.1", 4),
    "U hooks",
    train=False,
    notes="GLOBAL lists filled by forward hooks (state leaks between calls and instances)",
)
add("effunet.UNet", "effunet", 2, lambda: named("effunet.unet", "UNet")(), x2, seq("dec_conv_{}", 1, 5))
add(
    "backbones_unet.Unet",
    "pretrained-backbones-unet",
    2,
    lambda: named("backbones_unet.model.unet", "Unet")("resnet18", pretrained=False, in_channels=3, num_classes=3),
    x_rgb,
    D5,
)
add(
    "unet_pytorch.UNet",
    "unet-pytorch",
    2,
    lambda: named("unet_pytorch.model", "UNet")(1, 3),
    x2,
    seq("up{}", 1, 5),
    notes="softmax module after the head",
)
add(
    "unet3d.UNet3d",
    "unet3d",
    3,
    lambda: named("unet3d.unet3d", "UNet3d")(1, 2, 4, 3),
    x3,
    seq("ups.{}", 3),
    notes="one inplace ReLU shared by every layer",
)
add(
    "unet3d.LinkNet3d",
    "unet3d",
    3,
    lambda: named("unet3d.linknet3d", "LinkNet3d")(1, 2, 8, 3),
    x3,
    ["ups.0", "ups.2", "out.1"],
    "U",
    alts={1: ["ups.1"]},
    notes="ups.1 and ups.2 both at 8^3; x += skip in-place; finest stage transposed conv = logits",
)
add(
    "yaunet.UNet",
    "yaunet",
    2,
    lambda: named("yaunet", "UNet")(
        3,
        2,
        down_widths=(8, 16, 32),
        down_depths=(1, 1, 1),
        mid_width=32,
        mid_depth=1,
        up_widths=(32, 16, 8),
        up_depths=(1, 1, 1),
    ),
    x_rgb,
    seq("up.{}", 3),
    notes="channels-last LayerNorm inside blocks (permuted 4-D tensors)",
)
add(
    "med_seg_diff.Unet",
    "med-seg-diff-pytorch",
    2,
    lambda: named("med_seg_diff_pytorch", "Unet")(
        dim=8,
        image_size=32,
        mask_channels=1,
        input_img_channels=3,
        dim_mults=(1, 2, 4),
        full_self_attn=(False, False, False),
    ),
    lambda: (rand(1, 1, 32, 32), torch.tensor([3]), rand(1, 3, 32, 32)),
    ["ups.0.2", "ups.1.2", "ups.2.2"],
    "U time",
    alts={2: ["final_res_block", "ups.2.3"]},
)
add(
    "ddpm.Unet",
    "denoising-diffusion-pytorch",
    2,
    lambda: named("denoising_diffusion_pytorch", "Unet")(dim=8, dim_mults=(1, 2, 4), flash_attn=False),
    lambda: (rand(1, 3, 32, 32), torch.tensor([3])),
    ["in:ups.0.3", "in:ups.1.3", "final_res_block"],
    "U time",
    notes="attention added by functional + ; stage tensor = input of ups.i.3",
    alts={0: ["ups.0.2"], 1: ["ups.1.2"]},
)
add(
    "mist.NNUNet-ds",
    "mist-medical",
    3,
    lambda: named("mist.models.nnunet.mist_nnunet", "NNUNet")(1, 3, (32, 32, 32), (1.0, 1.0, 1.0), True, True, False),
    x3,
    seq("unet.decoder_layers.{}", 3),
    "U DS dict",
    notes="dict {prediction, deep_supervision} in training, tensor in eval; DS logits already upsampled",
)
add(
    "biom3d.UNet-ds",
    "biom3d",
    3,
    lambda: named("biom3d.models.unet3d_vgg_deep", "UNet")([3, 3, 3], 2, 8, use_deep=True),
    x3,
    seq("decoder.layers.{}", 3),
    "U DS",
    notes="list of logits, all upsampled to full size, eval too",
)
add(
    "modulaic.ConditionalUNet",
    "modulaic",
    2,
    lambda: named("modulaic.models.generator", "ConditionalUNetGenerator")(
        3, 2, condition_dim=4, depth=4, base_channels=8
    ),
    lambda: (rand(1, 3, 64, 64), rand(1, 4)),
    seq("film_layers.{}", 3),
    "U cond",
    alts={i: [f"decoder_stages.{i}"] for i in range(3)},
)
E3 = "elektronn3.models."
add(
    "elektronn3.UNet-3D",
    "elektronn3",
    3,
    lambda: named(E3 + "unet", "UNet")(1, 2, n_blocks=3, start_filts=8),
    x3,
    seq("up_convs.{}", 2),
)
add(
    "elektronn3.UNet-att-planar",
    "elektronn3",
    3,
    lambda: named(E3 + "unet", "UNet")(
        1, 2, n_blocks=3, start_filts=8, planar_blocks=(0,), attention=True, up_mode="resizeconv_nearest"
    ),
    x3,
    seq("up_convs.{}", 2),
    notes="anisotropic: first block pools only (1,2,2)",
)
add(
    "elektronn3.VNet",
    "elektronn3",
    3,
    lambda: named(E3 + "vnet", "VNet")(nll=False),
    lambda: (rand(1, 1, 32, 32, 32),),
    ["up_tr256", "up_tr128", "up_tr64", "up_tr32"],
)
add(
    "careamics.UNet",
    "careamics",
    2,
    lambda: named("careamics.models.unet.unet", "UNet")(2, num_classes=3, in_channels=1, depth=3, num_channels_init=8),
    x2,
    ["decoder.decoder_blocks.1", "decoder.decoder_blocks.3", "decoder.decoder_blocks.5"],
    notes="Upsample and Conv_Block interleaved in one ModuleList",
)
add(
    "torch_em.UNet2d",
    "torch-em",
    2,
    lambda: named("torch_em.model.unet", "UNet2d")(1, 2, depth=3, initial_features=8),
    x2,
    seq("decoder.blocks.{}", 3),
)
add(
    "torch_em.UNet2d-side",
    "torch-em",
    2,
    lambda: named("torch_em.model.unet", "UNet2d")(1, 2, depth=3, initial_features=8, return_side_outputs=True),
    x2,
    seq("decoder.blocks.{}", 3),
    "U DS",
    notes="list output; decoder returns a list",
)
add(
    "torch_em.AnisotropicUNet",
    "torch-em",
    3,
    lambda: named("torch_em.model.unet", "AnisotropicUNet")(
        1, 2, [[1, 2, 2], [1, 2, 2], [2, 2, 2]], initial_features=4
    ),
    lambda: (rand(1, 1, 8, 64, 64),),
    seq("decoder.blocks.{}", 3),
    notes="anisotropic scale factors: depth equal on several levels",
)
add(
    "torchseg.Unet",
    "torchseg",
    2,
    lambda: named("torchseg", "Unet")("resnet18", encoder_weights=None, classes=3),
    x_rgb,
    D5,
)
add(
    "torchseg.FPN",
    "torchseg",
    2,
    lambda: named("torchseg", "FPN")("resnet18", encoder_weights=None, classes=3),
    x_rgb,
    ["decoder.p5", "decoder.p4", "decoder.p3", "decoder.p2"],
    "FPN",
    alts={3: ["decoder"]},
)
add(
    "highresnet.HighRes3DNet",
    "highresnet",
    3,
    lambda: named("highresnet", "HighRes3DNet")(1, 3),
    x3,
    ["in:block.4"],
    "nonU",
    notes="one resolution",
)
IV = "ivadomed.models"
add(
    "ivadomed.Unet",
    "ivadomed",
    2,
    lambda: named(IV, "Unet")(1, 3, depth=3, n_filters=8),
    x2,
    ["decoder.up_path.0", "decoder.up_path.2", "decoder.up_path.4"],
    notes="UpConv and FiLM placeholders interleaved in a ModuleList; drops background channel from the output",
)
add("medicaltorch.Unet", "medicaltorch", 2, lambda: named("medicaltorch.models", "Unet")(), x2, ["up1", "up2", "up3"])
add(
    "video_diffusion.Unet3D",
    "video-diffusion-pytorch",
    3,
    lambda: named("video_diffusion_pytorch", "Unet3D")(dim=16, dim_mults=(1, 2, 4), attn_heads=2, attn_dim_head=8),
    lambda: (rand(1, 3, 4, 16, 16), torch.tensor([3])),
    ["ups.0.3", "ups.1.3", "final_conv.0"],
    "U time video",
    notes="time axis never downsampled",
    alts={2: ["ups.2.3"]},
)
add(
    "fastmri.Unet",
    "fastmri",
    2,
    lambda: named("fastmri.models.unet", "Unet")(1, 2, 8, 3),
    x2,
    ["up_conv.0", "up_conv.1", "up_conv.2.0"],
    notes="last up_conv is Sequential(block, head): stage and head in one container",
)
add(
    "the_well.UNetClassic",
    "the-well",
    2,
    lambda: named("the_well.benchmark.models.unet_classic", "UNetClassic")(3, 2, 2, (64, 64), 8),
    x_rgb,
    ["decoder4", "decoder3", "decoder2", "decoder1"],
)
add(
    "aisegcell.UNet_rec",
    "aisegcell",
    2,
    lambda: named("aisegcell.models.unet", "UNet_rec")(base_filters=8),
    lambda: (rand(1, 1, 128, 128),),
    seq("dec_block.{}", 7),
    notes="depth 7: the deepest map is 1x1",
)
add(
    "findcrack.UNet",
    "findcrack",
    2,
    lambda: named("findcrack.models", "UNet")(3, 2),
    x_rgb,
    seq("up{}", 1, 5),
    notes="copy of milesial Pytorch-UNet with F.pad on sizes",
)
add(
    "fiducials.ResidualUNet18",
    "torch-segment-fiducials-2d",
    2,
    lambda: named("torch_segment_fiducials_2d.model.model", "ResidualUNet18")(),
    x2,
    ["up4", "up3", "up2", "up1"],
)
add(
    "lungmask.UNet",
    "lungmask",
    2,
    lambda: named("lungmask.resunet", "UNet")(
        n_classes=3, depth=4, wf=3, padding=True, batch_norm=True, up_mode="upsample", residual=False
    ),
    x2,
    seq("up_path.{}", 3),
    notes="log_softmax after the head; center crop of skips by slicing",
)
