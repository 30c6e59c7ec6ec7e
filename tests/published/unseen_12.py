"""A twelfth list, of 30 November 2026, written blind: networks made for segmentation, of packages not tried yet."""

import torch
from torch import nn

from published.base import adder, alone, loose, rand, seq, x2, x3, x_rgb

add = adder("unseen-12")

AXONS = seq("deconv{}", 3, -1, -1)
add(
    "ac-segmentation.RSUNet",
    "ac-segmentation",
    3,
    lambda: alone("ac_segmentation.neurotorch.nets.RSUNet", "RSUNet")(),
    x3,
    [*AXONS[:3], "embedconv"],
    "U axons",
    ladders=[AXONS],
    notes="blocks go up, add skips and work; a layer more before the one that makes the logits",
)


def beats(name):
    make = alone("nnunetv2.models.custom_architectures", name)
    widths, branch = (4, 8, 12, 16, 20), ((8,), (8,))
    layers = dict(norm_op=nn.BatchNorm1d, nonlin=nn.LeakyReLU)
    size = (1, 5, widths, nn.Conv1d, [[5]] * 5, (1, 2, 2, 2, 2), 2, 4, 2, (2, 2), branch, (5, 5), (1, 2))
    return make(*size, **layers)


def x1():
    return (rand(1, 1, 1024),)


add(
    "aladin-ecg.UNet3pWithClassificationBranches",
    "aladin-ecg",
    1,
    lambda: beats("UNet3pWithClassificationBranches"),
    x1,
    seq("decoder.stages.{}", 4),
    "U nested heart",
    notes="each level is laid beside all finer ones of the encoder, pooled, and all coarser ones, resized; classifiers",
)
BEATS = seq("decoder.stages.{}", 4)
add(
    "aladin-ecg.UNetLSTMWithClassificationBranches",
    "aladin-ecg",
    1,
    lambda: beats("UNetLSTMWithClassificationBranches"),
    x1,
    [*BEATS[:3], "in:seg_layers.4"],
    "U heart",
    ladders=[BEATS],
    notes="windows of the signal go through one U; a recurrent layer works on them, laid together, before the logits",
)


class Chest(nn.Module):
    """The package's network takes and gives a table; the angle of view is an input."""

    def __init__(self):
        super().__init__()
        loose("cxas.losses.compound_losses", DC_and_BCE_loss=lambda **_: None)
        self.net = alone("cxas.models.UNet.unet_model", "UNet")("resnet50", 1, 4)

    def forward(self, x, angle):
        return self.net({"data": x, "view_angle": angle})["logits"]


add(
    "anycxr.UNet",
    "anycxr",
    2,
    Chest,
    lambda: (rand(1, 1, 64, 64), rand(1)),
    seq("net.decoder.amfs{}", 4, 0, -1),
    "U chest multi-input",
    notes="gates on two skips; a block, then layers with holes side by side; the last map is resized, then a layer",
)


def catalysed(name, module, *args, **kw):
    loose("catalyst.utils", set_requires_grad=lambda *_: None)
    return alone(f"catalyst.contrib.models.cv.segmentation.{module}", name)(*args, **kw)


CATALYSED = seq("decoder.blocks.{}", 4)
add(
    "catalyst.Unet",
    "catalyst",
    2,
    lambda: catalysed("Unet", "unet", 2, 3, 8),
    x_rgb,
    CATALYSED,
)
add(
    "catalyst.ResnetUnet",
    "catalyst",
    2,
    lambda: catalysed("ResnetUnet", "unet", 2, pretrained=False),
    lambda: (rand(1, 3, 128, 128),),
    ["bridge.block", *CATALYSED, "head.head.0"],
    "U",
    notes="the coarsest map is pooled and brought back, and a block works; skips are laid beside, and both go up; "
    "the head goes up once more, works and makes the logits",
)
add(
    "catalyst.Linknet",
    "catalyst",
    2,
    lambda: catalysed("Linknet", "linknet", 2, 3, 8),
    x_rgb,
    CATALYSED,
    notes="blocks go up, work and add the skip, on the last level too",
)


HOLES, WORK = [16, 12, 8, 4], [2, 2, 2, 2]


def corona(channels):
    for module in ("chronnos.data.convert", "chronnos.data.generator", "chronnos.train.callback"):
        loose(module)
    net = alone("chronnos.train.model", "CHRONNOS")(HOLES, WORK, channels, 1)
    for _ in HOLES[1:]:  # it grows as in the package's training
        net.createFadeIn()
        net.createFixed()
    return net


def coronas():
    nets = [corona(1), corona(1)]
    return alone("chronnos.train.model", "SCAN")(nets, 1, HOLES, WORK)


add(
    "chronnos.CHRONNOS",
    "chronnos",
    2,
    lambda: corona(2),
    lambda: (rand(1, 2, 32, 32),),
    ["core.core.core.up_block", "core.core.up_block", "core.up_block"],
    "U sun",
    notes="each level lies in the next finer one; a sigmoid",
)
add(
    "chronnos.SCAN",
    "chronnos",
    2,
    coronas,
    lambda: (rand(1, 2, 32, 32),),
    seq("module_list.{}", 2, 5),
    "U sun",
    notes="a decoder over the encoders of two networks; their maps are laid side by side and projected, on each level",
)
CRACKS = seq("up{}", 1, 5)


def cracks(name):
    return lambda: alone("crackpy.crack_detection.deep_learning.nets", name)(2, 1, 8)


add("crackpy.UNet", "crackpy", 2, cracks("UNet"), lambda: (rand(1, 2, 64, 64),), CRACKS, "U cracks", notes="a sigmoid")
add(
    "crackpy.ParallelNets",
    "crackpy",
    2,
    cracks("ParallelNets"),
    lambda: (rand(1, 2, 64, 64),),
    [f"unet.{name}" for name in CRACKS],
    "U cracks",
    notes="a mask, and where the tip of the crack is, from the bottom; the U's own forward() is not used",
)
add(
    "deepblocks.UNet",
    "deepblocks",
    2,
    lambda: alone("deepblocks.network.UNet", "UNet")(n_pool=3),
    x2,
    seq("decoder.{}", 3),
    "U",
    notes="an activation after the layer that makes the logits",
)
TIRAMISU = ["up_se_0", "up_se_1", "up_dense_2"]
add(
    "deepblocks.ICTNet",
    "deepblocks",
    2,
    lambda: alone("deepblocks.network.ICTNet", "ICTNet")(3, 8, 2, 3, 4, [2] * 7),
    x_rgb,
    TIRAMISU,
    "U",
    ladders=[["bottom_se", *TIRAMISU]],
    notes="dense blocks, of which the decoder and the bottom keep only what is new, but all on the last level; a gate "
    "on each",
)


def brains(module, **kw):
    found = (torch, True, None)
    names = {
        "dipy.align.reslice": {},
        "dipy.data": {},
        "dipy.nn.utils": {},
        "dipy.segment.utils": {},
        "dipy.testing.decorators": dict(doctest_skip_parser=lambda made: made),
        "dipy.utils.logging": {},
        "dipy.utils.optpkg": dict(optional_package=lambda *_, **__: found),
    }
    for name, things in names.items():
        loose(name, **things)
    return alone(f"dipy.nn.torch.{module}", "Model")(**kw)


add(
    "dipy.EVACPlus",
    "dipy",
    3,
    lambda: brains("evac", model_scale=4),
    lambda: tuple(rand(1, 1, *[size] * 3) for size in (32, 16, 8, 4, 2)),
    ["block5.add", *seq("up_block{}.add", 1, 5)],
    "U brain multi-input",
    notes="the image in five sizes; blocks work, are summed over channels, add what they are given, and go up, "
    "at the bottom too; stages of one or two channels; a softmax",
)
add(
    "dipy.SynthSeg",
    "dipy",
    3,
    lambda: brains("synthseg", model_scale=4),
    x3,
    seq("block_list.{}", 5, 9),
    "U brain",
    notes="a norm ends each block; a softmax",
)


class Actions(nn.Module):
    """The package's network without inputs of its own tasks; of several logits laid in one table, the finest."""

    def __init__(self, module, name, first, *args):
        super().__init__()
        self.net = alone(f"dlc2action.model.{module}", name)(3, {"pose": (4,)}, *args)
        self.first = first

    def forward(self, x):
        out = self.net(x, [])[0]
        return out[0] if self.first else out


def motion(length):
    return lambda: (rand(2, 4, length),)


ACTIONS = [f"net.feature_extractor.{name}" for name in ("up", *seq("up{}", 5))]
add(
    "dlc2action.C2F_TCN",
    "dlc2action",
    1,
    lambda: Actions("c2f_tcn", "C2F_TCN", True, 8),
    motion(1024),
    ["net.feature_extractor.tpp", *ACTIONS],
    "U DS actions",
    ladders=[ACTIONS],
    notes="the bottom is pooled to four sizes and brought back; coarser logits are laid beside in a new axis",
)
add(
    "dlc2action.C2F_Transformer",
    "dlc2action",
    1,
    lambda: Actions("c2f_transformer", "C2F_Transformer", True, 2, 8),
    motion(1024),
    ["net.feature_extractor.tpp", *ACTIONS],
    "U DS actions",
    ladders=[ACTIONS],
    alts={0: ["net.feature_extractor.pe"]},
    notes="as before, but each block begins with attention on the coarser level, before it goes up",
)
add(
    "dlc2action.EDTCN",
    "dlc2action",
    1,
    lambda: Actions("edtcn", "EDTCN", False, 5, [8, 12]),
    motion(64),
    ["net.feature_extractor.relu3", "net.feature_extractor.relu4"],
    "U noskip actions",
    notes="one layer for each level; the activation divides by the largest channel",
)


class Knees(nn.Module):
    """The package's backbone, and the layer that its example of segmentation puts on it."""

    def __init__(self):
        super().__init__()
        self.backbone = alone("fuse.dl.models.backbones.backbone_unet3d", "UNet3D")()
        self.head = nn.Conv3d(64, 2, 1)

    def forward(self, x):
        return self.head(self.backbone(x))


add(
    "fuse-med-ml.UNet3D",
    "fuse-med-ml",
    3,
    Knees,
    lambda: (rand(1, 1, 16, 16, 16),),
    ["backbone.up_tr256", "backbone.up_tr128", "backbone.up_tr64"],
    "U knees",
    notes="norms count batches in eval mode too; maps are kept as attributes",
)
HAIR = ["decode_layer2.1", *seq("decode_layer{}.0", 3, 6)]
for version in ("", "V2"):
    add(
        f"hairsys.MobileHairNet{version}",
        "hairsys",
        2,
        lambda version=version: alone(f"models.modelv{2 if version else 1}", f"MobileHairNet{version}")(),
        x_rgb,
        [*HAIR, "decode_layer5.2"],
        "U hair",
        ladders=[HAIR],
        notes="skips are added by the parent, then blocks work and go up; the last list goes up and works on to logits",
    )


def salient():
    for module in ("joblib", "tqdm", "skimage", "skimage.io", "skimage.transform", "skimage.measure"):
        loose(module)
    for module in ("skimage.morphology", "justdeepit.utils", "justdeepit.models.abstract"):
        loose(module)
    return alone("justdeepit.models.utils.u2net", "U2NetArch")()


add(
    "justdeepit.U2NetArch",
    "justdeepit",
    2,
    salient,
    x_rgb,
    ["stage6", *seq("stage{}d", 5, 0, -1)],
    "U nested DS salient",
    notes="small U's in blocks; logits of all levels, the bottom too, are laid beside and merged",
)
