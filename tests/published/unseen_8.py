"""An eighth list, of 30 November 2026, written blind: medical and microscopy networks of packages not tried before."""

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-8")

BIAPY = [*seq("up_paths.0.{}", 3), "conv_out.0"]


def biapy(file, name, shape, **more):
    make = alone(f"biapy.models.{file}", name)
    return make(shape, feature_maps=[8, 16, 24, 32], normalization="bn", activation="elu", output_channels=[3], **more)


add(
    "biapy.ResUNet_SE",
    "biapy",
    3,
    lambda: biapy("resunet_se", "ResUNet_SE", (16, 32, 32, 1), z_down=[1, 2, 2, 2]),
    lambda: (rand(1, 1, 16, 32, 32),),
    [*BIAPY[:2], "conv_out.0"],
    alts={2: ["up_paths.0.2"]},
    notes="residual blocks, gated on channels; a layer more after the last; the first level shrinks two axes only",
)


def unetr():
    return alone("biapy.models.unetr", "UNETR")((64, 64, 1), 16, 48, 4, 4, num_filters=8, output_channels=[3])


add(
    "biapy.UNETR",
    "biapy",
    2,
    unetr,
    x2,
    [*seq("two_yellow_layers.{}", 3), "two_yellow_layers.4"],
    "U vit",
    notes="what tokens become comes up by blocks of its own as skips; blocks lie in one list with that of the image",
)
add(
    "biapy.SE_U_Net",
    "biapy",
    2,
    lambda: biapy("seunet", "SE_U_Net", (64, 64, 1), upsample_layer="upsampling"),
    x2,
    [*BIAPY[:2], "conv_out.0"],
    alts={2: ["up_paths.0.2"]},
    notes="gates on channels in each layer; a layer more after the last",
)


class Eyes(nn.Module):
    """The package's network, without what trains it."""

    def __init__(self, file, name, backbone, taken, widths):
        super().__init__()
        loose("mednet.models.segment.model", Model=nn.Module)
        loose("mednet.models.losses")
        loose("mednet.data.typing")
        self.head = alone(f"mednet.models.segment.{file}", name)(widths)
        make = named(f"mednet.models.segment.backbones.{backbone[0]}", backbone[1])
        self.backbone = make(pretrained=False, return_features=taken)

    def forward(self, x):
        return self.head(self.backbone(x))


VGG = ("vgg", "vgg16_for_segmentation")
SIDES = [*(f"head.upsample{i}.conv" for i in (8, 4, 2)), "head.conv1_2_16"]
FUSED = "in:head.concatfuse.conv"
add(
    "mednet.DRIUBN",
    "mednet",
    2,
    lambda: Eyes("driu_bn", "DRIUBNHead", (VGG[0], "vgg16_bn_for_segmentation"), [5, 12, 19, 29], [64, 128, 256, 512]),
    lambda: (rand(1, 3, 72, 56),),
    SIDES,
    "FPN eyes",
    ladders=[[*SIDES[:3], FUSED]],
    notes="a layer works on each level and another brings it to full size at once; cropped there; laid side by side",
)
add(
    "mednet.M2UNet",
    "mednet",
    2,
    lambda: Eyes("m2unet", "M2UNetHead", ("mobilenetv2", "mobilenet_v2_for_segmentation"), [1, 3, 6, 13], [0]),
    x_rgb,
    seq("head.decode{}", 4, 0, -1),
    "U eyes",
    notes="the last block, of another class but the same layers, makes the logits, from the image too",
)
OD = [f"head.upsample{i}.conv" for i in (16, 8, 4, 2)]
add(
    "mednet.DRIUOD",
    "mednet",
    2,
    lambda: Eyes("driu_od", "DRIUODHead", VGG, [8, 14, 22, 29], [128, 256, 512, 512]),
    x_rgb,
    OD,
    "FPN eyes",
    ladders=[[*OD, FUSED]],
    notes="a layer works on each level and another brings it to full size at once; no level is of that size",
)


def neuralnets(name, **more):
    for module in ("torch.metrics", "tools", "augmentation", "validation", "visualization"):
        loose(f"neuralnets.util.{module}")
    loose("neuralnets.util.losses", get_loss_function=lambda _: None)
    loose("pytorch_lightning.metrics.functional")
    return alone("neuralnets.networks.unet", name)(feature_maps=8, levels=3, coi=(0, 1, 2), **more)


NEURAL = seq("decoder.features.convblock{}", 1, 4)
add(
    "neuralnets.UNet2D",
    "neuralnets",
    2,
    lambda: neuralnets("UNet2D"),
    x2,
    NEURAL,
    "U neurons",
    notes="modules are got by name; a block goes up and merges, another works",
)
add(
    "neuralnets.UNet3D",
    "neuralnets",
    3,
    lambda: neuralnets("UNet3D", residual_connections=True),
    x3,
    NEURAL,
    "U neurons",
    notes="the parent adds skips",
)
add(
    "neuralnets.DenseUNet2D",
    "neuralnets",
    2,
    lambda: neuralnets("DenseUNet2D", k=4, norm="batch"),
    x2,
    NEURAL,
    "U neurons",
    notes="dense blocks",
)
add(
    "segrunlib.Unet3d",
    "segrunlib",
    3,
    lambda: alone("SegRunLib.ml.unet3d", "Unet3d")(1, 2, 4, depth=3),
    x3,
    ["UpConvs.0"],
    "nonU",
    notes="each level goes up from the encoder's map, so all but the last are left and there is one rise only",
)
add(
    "segrunlib.U_Net",
    "segrunlib",
    3,
    lambda: alone("SegRunLib.ml.unet3d", "U_Net")(1, 2, 4),
    x3,
    seq("Up_conv{}", 5, 1, -1),
    notes="one activation for all blocks; a sigmoid",
)
NAPARI = seq("dec{}", 3, 0, -1)
add(
    "napari-unet-assistant.UNet2D",
    "napari-unet-assistant",
    2,
    lambda: alone("napari_unet_assistant.models.unet", "UNet2D")(1, 3, 8),
    x2,
    NAPARI,
)
add(
    "napari-unet-assistant.UNet3D",
    "napari-unet-assistant",
    3,
    lambda: alone("napari_unet_assistant.models.unet", "UNet3D")(1, 3, 4),
    x3,
    NAPARI,
)
