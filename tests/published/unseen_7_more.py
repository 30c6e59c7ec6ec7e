"""More of the seventh list, also blind: cells, voices, particles, graphs of modules."""

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-7")
UNICELL = seq("decoder{}", 4, 1, -1)


def unicell(name):
    return lambda: alone("models.unicell_modules", name)(3, 3, feature_size=8, img_size=64)


for NAME in ("UniCell", "MiT_B3_UNet_MultiHead"):
    add(
        f"unicell.{NAME}",
        "unicell",
        2,
        unicell(NAME),
        lambda: (rand(1, 3, 64, 64),),
        [*UNICELL, "decoder1"],
        "U cells vit",
        ladders=[[*UNICELL, "transp_conv", "decoder1"]],
        notes="goes up fourfold at the end, by a layer and a block; two outputs of one map",
    )


def glottis():
    loose("cv2")
    loose("openglottal.utils")
    return alone("openglottal.models.unet", "UNet")(1, 2, (8, 16, 32))


add(
    "openglottal.UNet",
    "openglottal",
    2,
    glottis,
    lambda: (rand(1, 1, 60, 44),),
    seq("ups.{}", 1, 6, 2),
    notes="layers that go up and blocks lie in one list; what comes up is resized where sizes are odd",
)


def particles():
    loose("scipy.ndimage.filters")
    make = alone("particleseg3d.utils.nnunet_utils", "Generic_UNet")
    return make(1, 8, 3, 3, conv_op=nn.Conv3d, **THREE)


THREE = dict(norm_op=nn.InstanceNorm3d, dropout_op=nn.Dropout3d, convolutional_upsampling=True)
THREE |= dict(convolutional_pooling=True, pool_op_kernel_sizes=[(2, 2, 2)] * 3, conv_kernel_sizes=[(3, 3, 3)] * 4)
add(
    "particleseg3d.Generic_UNet",
    "particleseg3d",
    3,
    particles,
    x3,
    seq("conv_blocks_localization.{}", 3),
    "U DS",
    notes="returns a tuple of logits, the finest first",
)


class Graph(nn.Module):
    """Runs the package's graph of modules, and returns what its heads make, the finest first."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        made = [map for name, map in self.net.named_forward(x) if name.endswith(("Head", ".Conv")) and "Head" in name]
        return made[::-1]


def konfai(file, name, **more):
    loose("psutil")
    return Graph(named(f"konfai.models.python.segmentation.{file}", name)(dim=2, **more))


add(
    "konfai.UNet",
    "konfai",
    2,
    lambda: konfai("UNet", "UNet", channels=[1, 8, 16, 24, 32], attention=True),
    x2,
    [f"in:net.UNetBlock_0{''.join(f'.UNetBlock_{j}' for j in range(1, i + 1))}.Head.Conv" for i in (2, 1, 0)],
    "U DS",
    notes="a graph of modules, run by their names; blocks lie in each other, with gates; own logits of each level",
)
add(
    "konfai.NestedUNet",
    "konfai",
    2,
    lambda: konfai("NestedUNet", "NestedUNet", channels=[1, 8, 16, 24, 32], activation="none"),
    x2,
    [
        f"net.UNetBlock_0{name}.Activation_1"
        for name in (".UNetBlock_1.UNetBlock_2.X_2_1", ".UNetBlock_1.X_1_2", ".X_0_3")
    ],
    "U nested DS",
    notes="a graph of modules, run by their names; own logits of each column at full size",
)
add(
    "konfai.UNetPlusPlus",
    "konfai",
    2,
    lambda: konfai("unetplusplus", "UNetPlusPlus", encoder_name="resnet18", decoder_channels=[64, 48, 32, 16, 8]),
    x_rgb,
    seq("net.x_0_{}_conv.Activation_1", 5),
    "U nested",
    notes="a graph of modules, run by their names; a level without a skip after the last",
)


def scellseg():
    for name in ("transforms", "io", "dynamics", "utils", "metrics", "dataset", "core"):
        loose(f"scellseg.{name}")
    return alone("scellseg.net_desc", "sCSnet")([2, 32, 64, 128, 256], 3, 3)


add(
    "scellseg.sCSnet",
    "scellseg",
    2,
    scellseg,
    lambda: (rand(1, 2, 64, 64),),
    seq("extractor.upsample.up.res_up_{}", 3, -1, -1),
    "U cells",
    notes="pre-activation; the same merge is done at the bottom; styles of pooled maps are added in the blocks",
)

VEINS = seq("decoder.up{}", 4, 0, -1)
add(
    "veinseg.UNetWithAttention",
    "veinseg-qsm",
    3,
    lambda: alone("veinseg.model_arch", "UNetWithAttention")(1, 2, base_features=4),
    lambda: (rand(1, 1, 32, 48, 32),),
    VEINS,
    "U vessels",
    notes="blocks go up, a gated skip is laid beside, and both go up at once; gates of a domain on the way down",
)
add(
    "veinseg.PriorGatedSingleChannelUNet",
    "veinseg-qsm",
    3,
    lambda: alone("veinseg.model_arch", "PriorGatedSingleChannelUNet")(base_features=4),
    lambda: (rand(1, 1, 32, 48, 32), rand(1, 2, 32, 48, 32)),
    VEINS,
    "U vessels multi-input",
    notes="two more images gate the first",
)


def vessels():
    loose("wandb")
    return alone("liom_toolkit.segmentation.vseg.model", "VsegModel")()


add("liom-toolkit.VsegModel", "liom-toolkit", 2, vessels, x2, seq("d{}", 1, 5), "U vessels", notes="a sigmoid")
