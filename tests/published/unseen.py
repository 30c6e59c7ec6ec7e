"""A tenth list, of 28 November 2026, written blind: medical and microscopy networks of packages not tried before."""

from published.base import adder, alone, named, rand, seq, x2, x3, x_rgb

add = adder("tenth")
BIO = "bio_image_unet."
BIO_STAGES = ["decode2", "decode4", "decode6", "decode8"]
add(
    "bio_unet.Unet",
    "bio-image-unet",
    2,
    lambda: alone(BIO + "unet.unet", "Unet")(2, 3, 8),
    lambda: (rand(1, 2, 64, 64),),
    BIO_STAGES,
    notes="returns probabilities and logits",
)
add(
    "bio_unet.AttentionUnet",
    "bio-image-unet",
    2,
    lambda: alone(BIO + "unet.attention_unet", "AttentionUnet")(1, 3, 8),
    x2,
    BIO_STAGES,
)
add(
    "bio_unet.Siam_UNet",
    "bio-image-unet",
    2,
    lambda: alone(BIO + "siam_unet.siam_unet", "Siam_UNet")(8),
    lambda: (rand(1, 1, 64, 64), rand(1, 1, 64, 64)),
    BIO_STAGES,
    "U siamese",
    notes="two inputs, one encoder called twice",
)
add(
    "bio_unet.UNet3D",
    "bio-image-unet",
    3,
    lambda: alone(BIO + "unet3d.unet3d", "UNet3D")(1, 2, 8, True),
    x3,
    BIO_STAGES[:3],
)
add(
    "bio_unet.MultiOutputNestedUNet",
    "bio-image-unet",
    2,
    lambda: alone(BIO + "multi_output_unet.multi_output_nested_unet", "MultiOutputNestedUNet")(
        1, {"mask": {"channels": 3, "activation": None}}, 8
    ),
    x2,
    ["conv3_1", "conv2_2", "conv1_3", "conv0_4"],
    "U nested",
    notes="returns a dict by head",
)
BISM = "bism.models."
add(
    "bism.UNet_3D",
    "bism",
    3,
    lambda: named(BISM + "unet", "UNet_3D")(1, 3, dims=[8, 16, 32, 16, 8], kernel_size=3),
    x3,
    ["up_blocks.0", "concat.1"],
)
add(
    "bism.UNeXT_3D",
    "bism",
    3,
    lambda: named(BISM + "unext", "UNeXT_3D")(1, 3, dims=[8, 16, 32, 16, 8], depths=[1, 1, 1, 1, 1], kernel_size=3),
    x3,
    ["up_norms.0", "up_norms.1", "final_concat"],
    alts={0: ["up_stages.0"], 1: ["up_stages.1"]},
)
add(
    "bism.UNetPlusPlus_3D",
    "bism",
    3,
    lambda: named(BISM + "unetplusplus", "UNetPlusPlus_3D")(1, 3, dims=[4, 8, 16, 32], depths=[1] * 4, kernel_size=3),
    x3,
    ["blocks.1.2", "blocks.2.1", "blocks.3.0"],
    "U nested",
)
TERNAUS = ["dec5.block.0", "dec4.block.0", "dec3.block.0", "dec2.block.0", "dec1"]
BLOCKS = [["dec5", "dec4", "dec3", "dec1"]]
add(
    "ternausnet.UNet11",
    "ternausnet",
    2,
    lambda: named("ternausnet.models", "UNet11")(32),
    x_rgb,
    TERNAUS,
    ladders=BLOCKS,
    notes="each block goes up at its end",
)
add(
    "ternausnet.UNet16",
    "ternausnet",
    2,
    lambda: named("ternausnet.models", "UNet16")(3, 8, is_deconv=True),
    x_rgb,
    TERNAUS,
    ladders=BLOCKS,
)
add(
    "torch_segment.UNet",
    "torch-segment",
    2,
    lambda: named("torch_segment.models.unet", "UNet")(3),
    x_rgb,
    seq("up_convolution_{}", 1, 5),
)
add("fidder.Fidder", "fidder", 2, lambda: alone("fidder.model.model", "Fidder")(), x2, ["up4", "up3", "up2", "up1"])
MED = "medvision.models."
add(
    "medvision.UNet_3Plus",
    "medvision-segmentation",
    2,
    lambda: alone(MED + "UNet_3Plus", "UNet_3Plus")(1, 3),
    x2,
    ["relu4d_1", "relu3d_1", "relu2d_1", "relu1d_1"],
    "U full-scale",
)
add(
    "medvision.UNet_3Plus_DeepSup",
    "medvision-segmentation",
    2,
    lambda: alone(MED + "UNet_3Plus", "UNet_3Plus_DeepSup")(1, 3),
    x2,
    ["conv5", "relu4d_1", "relu3d_1", "relu2d_1", "relu1d_1"],
    "U full-scale DS",
)
add(
    "medvision.UNet_2Plus",
    "medvision-segmentation",
    2,
    lambda: alone(MED + "UNet_2Plus", "UNet_2Plus")(1, 3, is_ds=False),
    x2,
    ["up_concat31", "up_concat22", "up_concat13", "up_concat04"],
    "U nested",
)
add(
    "medvision.ResNetUnetPlus",
    "medvision-segmentation",
    2,
    lambda: alone(MED + "ResNetUnetPlus", "ResNetUnetPlus")(1, 3),
    x2,
    ["conv3_1", "conv2_2", "conv1_3", "conv0_4"],
    "U nested",
)
add(
    "medvision.DenseUNet",
    "medvision-segmentation",
    2,
    lambda: alone(MED + "denseUnet", "DenseUNet")(1, 3, 8, 2),
    x2,
    ["dec4", "dec3", "dec2", "dec1"],
)
add(
    "medvision.UNet3D",
    "medvision-segmentation",
    3,
    lambda: alone(MED + "Unet3d", "UNet3D")(1, 2, 4),
    x3,
    ["dec3", "dec2", "dec1"],
)


def mindglow():
    encoder = named("mindglow.seg2d.models.encoders", "get_encoder")("resnet18", pretrained=False)
    return named("mindglow.seg2d.models.unet", "UNet")(encoder, (64, 32, 16, 8), 3, deep_supervision=True)


add(
    "mindglow.UNet-ds",
    "mindglow",
    2,
    mindglow,
    x_rgb,
    seq("up_blocks.{}", 4),
    "U DS",
    notes="returns a dict with coarser logits in train mode",
)
add(
    "octopytorch.Tiramisu",
    "octopytorch",
    2,
    lambda: named("models.tiramisu", "Tiramisu")(1, 3, 8, ([2, 2, 2], 2, [2, 2, 2])),
    x2,
    ["layers_up.layers_up_0", "layers_up.layers_up_1", "layers_up.layers_up_last"],
)
add(
    "deepbrainseg.FCDenseNet",
    "deepbrainseg",
    2,
    lambda: alone("DeepBrainSeg.tumor.models.modelTir2D", "FCDenseNet")(1, (2, 2, 2), (2, 2, 2), 2, 4, 8, 3),
    x2,
    seq("denseBlocksUp.{}", 3),
)
add(
    "liver_ct.UNet3D",
    "liver-ct-segmentation-package",
    3,
    lambda: named("liver_ct_segmentation_package.model.unet_3d_models", "UNet3D")(1, 2),
    x3,
    ["up1", "up2"],
)
add(
    "torchvf.H1Model",
    "torchvf",
    2,
    lambda: named("torchvf.models.models", "H1Model")(1, [1, 2]),
    x2,
    seq("head_0.decoder_{}", 3),
    "U multi",
    notes="two heads on one decoder",
)
add(
    "torchvf.H2Model",
    "torchvf",
    2,
    lambda: named("torchvf.models.models", "H2Model")(1, [2, 2]),
    x2,
    seq("head_0.decoder_{}", 3),
    "U multi",
    ladders=[seq("head_1.decoder_{}", 3)],
    notes="two decoders",
)
add("unet_torch.Unet", "unet-torch", 2, lambda: named("unet.model", "Unet")(1, 3), x2, seq("up{}", 1, 5))
add(
    "volume_segmantics.UNet",
    "volume-segmantics",
    2,
    lambda: alone("volume_segmantics.model.vanilla_unet", "UNet")(1, 3),
    x2,
    seq("up_conv{}", 4, 0, -1),
)
add(
    "yeaz.UNet",
    "yeaz",
    2,
    lambda: named("yeaz.unet.model_pytorch", "UNet")(),
    x2,
    ["relu#12", "relu#15", "relu#18", "relu#22"],
    alts={0: ["conv2d_12"], 1: ["conv2d_15"], 2: ["conv2d_18"], 3: ["conv2d_22", "relu#21"]},
    notes="all layers in one module; one ReLU for all",
)
add(
    "segment_torch.UNet",
    "segment-torch",
    2,
    lambda: named("segment_torch.unet", "UNet")(1, 3, [8, 16, 32], device="cpu"),
    x2,
    seq("layers_upsample.batchnorm_dec_{}", 2),
    alts={0: ["layers_upsample.conv_dec_0_2"]},
)
add(
    "cellmap.UNet2D",
    "cellmap-models",
    2,
    lambda: alone("cellmap_models.pytorch.untrained_models.unet_2D", "UNet2D")(1, 3),
    x2,
    seq("up{}", 1, 5),
)
add(
    "cellmap.UNet3D",
    "cellmap-models",
    3,
    lambda: alone("cellmap_models.pytorch.untrained_models.unet_3D", "UNet3D")(1, 2),
    x3,
    seq("up{}", 1, 5),
)
add(
    "blast_ct.DeepMedic",
    "blast-ct",
    3,
    lambda: named("blast_ct.models.deepmedic", "DeepMedic")(1, 3),
    lambda: (rand(1, 1, 90, 90, 90),),
    ["in:fully_connected"],
    "nonU parallel",
    notes="pathways of several scales beside each other, joined at one",
)
