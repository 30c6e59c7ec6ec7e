"""A ninth list, of 30 November 2026, written blind: networks of packages not tried before, a to m."""

import sys
import types

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-9")


class Parts(nn.Module):
    """An encoder of timm, and what the package makes of its maps."""

    def __init__(self, head, *taken):
        super().__init__()
        self.encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=taken)
        self.head = head

    def forward(self, x):
        return self.head(self.encoder(x))


add(
    "acdentnet.HeatmapNet",
    "acdentnet",
    2,
    lambda: alone("acdentnet.model", "HeatmapNet")(),
    lambda: (rand(1, 3, 96, 96),),
    seq("deconv.{}", 2, 9, 3),
    "U noskip poses",
    notes="no skips; layers go up, each with a norm and an activation",
)


class Config(dict):
    """Gives what it holds as attributes, too."""

    __getattr__ = dict.__getitem__


def poses(file, name, *more, **extra):
    loose("yacs.config")
    model = Config(NUM_JOINTS=5, EXTRA=Config(FINAL_CONV_KERNEL=1, PRETRAINED_LAYERS=["*"], **extra))
    module = f"aja_pose.lib.models.{file}"
    if more:
        more = [alone(module, more[0]), [1, 1, 1, 1]]
    return alone(module, name)(*more, Config(MODEL=model))


def branches(number, block):
    chosen = dict(NUM_MODULES=1, NUM_BRANCHES=number, NUM_BLOCKS=[1] * number, BLOCK=block, FUSE_METHOD="SUM")
    return chosen | dict(NUM_CHANNELS=[8 * 2**i for i in range(number)])


UPS = dict(DECONV_WITH_BIAS=False, NUM_DECONV_LAYERS=3, NUM_DECONV_FILTERS=[32] * 3, NUM_DECONV_KERNELS=[4] * 3)
add(
    "aja-pose.PoseResNet",
    "aja-pose",
    2,
    lambda: poses("pose_resnet", "PoseResNet", "BasicBlock", **UPS),
    x_rgb,
    seq("deconv_layers.{}", 2, 9, 3),
    "U noskip poses",
    notes="no skips; layers go up, each with a norm and an activation, in one Sequential",
)
HIGH = seq("stage4.0.branches.{}", 3, 0, -1)
add(
    "aja-pose.PoseHighResolutionNet",
    "aja-pose",
    2,
    lambda: poses("pose_hrnet", "PoseHighResolutionNet", **{f"STAGE{i}": branches(i, "BASIC") for i in (2, 3, 4)}),
    lambda: (rand(1, 3, 128, 128),),
    [*HIGH, "stage4@[0]"],
    "FPN poses",
    ladders=[[*(f"stage4.0.fuse_layers.0.{i}.1" for i in (3, 2, 1)), "stage4@[0]"]],
    notes="HRNet: branches of four sizes; a layer and a norm work on each, which are then resized and summed",
)
add(
    "autotimm.DeepLabV3PlusHead",
    "autotimm",
    2,
    lambda: Parts(alone("autotimm.heads._heads", "DeepLabV3PlusHead")([64, 128, 256, 512], 3, 32, 32), 1, 2, 3, 4),
    x_rgb,
    ["head.aspp", "head.decoder"],
    "U scenes",
    notes="DeepLabV3+: what is pooled to several sizes goes up eightfold and meets one skip",
)


def biodenoised(file, name, **more):
    loose("julius")
    loose("biodenoising.denoiser.utils", capture_init=lambda made: made)
    return alone(f"biodenoising.denoiser.{file}", name)(**more)


WAVES = seq("encoder.0.3#{}", 3, 6)
add(
    "biodenoising.Demucs",
    "biodenoising",
    1,
    lambda: biodenoised("demucs", "Demucs", hidden=8, depth=3, resample=1),
    lambda: (rand(1, 1, 1024),),
    [*WAVES, "decoder.2"],
    "U denoise",
    ladders=[WAVES, seq("decoder.{}", 3)],
    notes="the parent adds skips, at the bottom too; blocks work and go up, the last to the output; one GLU for all",
)
BLOCKS = seq("decoder.{}.1", 4)
add(
    "biodenoising.CleanUNet",
    "biodenoising",
    1,
    lambda: biodenoised(
        "cleanunet",
        "CleanUNet",
        channels_H=8,
        max_H=32,
        encoder_n_layers=4,
        tsfm_n_layers=1,
        tsfm_n_head=2,
        tsfm_d_model=16,
        tsfm_d_inner=32,
    ),
    lambda: (rand(1, 1, 512),),
    [*BLOCKS, "decoder.3"],
    "U denoise",
    ladders=[BLOCKS, seq("decoder.{}", 4)],
    notes="the input is divided in place; the parent adds skips, at the bottom too; the last block makes the output",
)
LAST = "stage3.5"
add(
    "cig-bench.HRNet",
    "cig-bench",
    3,
    lambda: named("cig_bench.networks.hrnet", "HRNet")(1, 4, gn_groups=4),
    lambda: (rand(1, 1, 32, 32, 32),),
    [f"{LAST}.branches.2", f"{LAST}@[1]", "decoder.2", "decoder.6"],
    "FPN seismic",
    ladders=[[f"{LAST}@[1]", "decoder.2", "decoder.6"]],
    notes="HRNet: branches are summed, two sizes laid side by side; a head works and goes up by pixel shuffle, twice",
)
SKIPPED = [f"{LAST}.branches.2", f"{LAST}@[1]", f"{LAST}@[0]", "dec_block1", "dec_out.5"]
add(
    "cig-bench.HRNetSkip",
    "cig-bench",
    3,
    lambda: named("cig_bench.networks.hrnet_skipconect", "HRNet")(c=4),
    lambda: (rand(1, 1, 32, 32, 32),),
    SKIPPED,
    "FPN seismic",
    alts={2: ["in:dec_block1"], 4: ["dec_block2"]},
    ladders=[SKIPPED[1:]],
    notes="HRNet: branches are summed, two sizes laid side by side; blocks go up and work; skips are laid beside",
)


def dalle(file, name, *given, **more):
    for module in ("", ".filters", ".augmentation"):
        loose(f"kornia{module}")
    for module in ("resize_right", "x_clip", "coca_pytorch"):
        loose(module)
    loose("rotary_embedding_torch", RotaryEmbedding=lambda **_: None)
    loose("vector_quantize_pytorch", VectorQuantize=lambda **_: Kept())
    loose("dalle2_pytorch.tokenizer")
    return alone(f"dalle2_pytorch.{file}", name)(*given, **more)


class Kept(nn.Module):
    """In place of the package's book of codes: leaves a map as it is."""

    def forward(self, x):
        return x, None, torch.zeros(1)


class Noisy(nn.Module):
    """Gives the network an embedding of an image, by name."""

    def __init__(self):
        super().__init__()
        more = dict(image_embed_dim=16, cond_dim=16, dim_mults=(1, 2, 4), num_resnet_blocks=1, attn_heads=2)
        self.net = dalle("dalle2_pytorch", "Unet", 16, cond_on_image_embeds=True, **more)
        self.net.to_out.reset_parameters()  # it begins at nought

    def forward(self, x, time, image):
        return self.net(x, time, image_embed=image)


add(
    "dalle2-pytorch.Unet",
    "dalle2-pytorch",
    2,
    Noisy,
    lambda: (rand(1, 3, 32, 32), torch.tensor([3]), rand(1, 16)),
    [*seq("net.ups.{}.1.0", 2), "net.final_resnet_block"],
    "U time cond",
    notes="skips at the bottleneck too; goes up by pixel shuffle; the first map is laid beside before the last block",
)


class Coded(nn.Module):
    """The package's autoencoder of pictures, without what trains it."""

    def __init__(self):
        super().__init__()
        self.net = dalle("vqgan_vae", "ResnetEncDec", 16, layers=3, attn_dim_head=8, attn_heads=2)

    def forward(self, x):
        return self.net.decode(self.net.encode(x))


add(
    "dalle2-pytorch.ResnetEncDec",
    "dalle2-pytorch",
    2,
    Coded,
    x_rgb,
    seq("net.decoders.{}", 2, 5),
    "U noskip",
    ladders=[seq("net.decoders.{}", 1, 5)],
    notes="no skips; layers go up, each with an activation; before them blocks of the decoder's own kind at the bottom",
)


class Structured(nn.Module):
    """The package's U between two layers, as its documentation puts it."""

    def __init__(self, *structure, **more):
        super().__init__()
        for module in ("", ".crop", ".measure", ".pad", ".zoom"):
            loose(f"imops{module}")
        loose("dpipe.io")
        loose("dpipe.layers.shape")
        for name in ("Pre", "Post", "Mid"):
            made = alone("dpipe.layers.conv", f"{name}ActivationND")
            setattr(sys.modules["dpipe.layers"], f"{name}ActivationND", made)
        block = alone("dpipe.layers.resblock", "ResBlock2d")
        down, up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")
        make = alone("dpipe.layers.fpn", "FPN")
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.net = make(block, down, up, torch.add, structure, kernel_size=3, padding=1, **more)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        return self.head(self.net(self.stem(x)))


add(
    "deep-pipe.FPN",
    "deep-pipe",
    2,
    lambda: Structured([[8, 8, 8], [8, 8, 8]], [[8, 16, 16], [16, 16, 8]], [[16, 32, 32], [32, 32, 16]], [32, 32]),
    lambda: (rand(1, 1, 64, 64),),
    seq("net.up_path.{}", 2, -1, -1),
    "U",
    notes="the parent adds skips, and residual blocks work on the sums",
)
add(
    "deepdespeckling.Model",
    "deepdespeckling",
    2,
    lambda: alone("deepdespeckling.model", "Model")("cpu", 64, 64),
    lambda: (rand(1, 1, 64, 64),),
    seq("leaky#{}", 8, 17, 2),
    "U restoration radar",
    notes="one activation for all; the image is the last skip, and the output is taken from it",
)


def tokens(name, **more):
    loose("depth_anything_3.utils.logger", logger=types.SimpleNamespace(warning=print, info=print))
    return alone(f"depth_anything_3.model.{name.lower()}", name)(32, features=32, out_channels=(16, 24, 32, 32), **more)


class Depth(nn.Module):
    """Patches of an image as tokens, and the package's head."""

    def __init__(self, name, **more):
        super().__init__()
        self.cut = nn.Conv2d(3, 32, 14, 14)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(32, 2, 64, batch_first=True) for _ in range(4))
        self.head = tokens(name, **more)

    def forward(self, x):
        taken = [self.cut(x).flatten(2).mT]
        for block in self.blocks:
            taken.append(block(taken[-1]))
        return self.head([[one[:, None]] for one in taken[1:]], x.shape[2], x.shape[3], 0)["depth"]


def fused(finest):
    return [*seq("head.scratch.refinenet{}", 4, 1, -1), *finest]


MADE = "head.scratch.output_conv1"
for name, more, kept in (
    ("DPT", dict(use_sky_head=False), "with no head beside"),
    ("DualDPT", {}, "beside another one"),
):
    add(
        f"depth-anything-3.{name}",
        "depth-anything-3",
        2,
        lambda name=name, more=more: Depth(name, **more),
        lambda: (rand(1, 3, 112, 112),),
        fused([MADE]),
        "U vit depth" if name == "DPT" else "U vit depth multi",
        alts={3: ["head.scratch.refinenet1"]},
        ladders=[fused([MADE, "head.scratch.output_conv2.1"])],
        notes=f"DPT {kept}; a fusion works and goes up inside; the head works, is resized and works on; views",
    )
add(
    "doc-ufcn.DocUFCNModel",
    "doc-ufcn",
    2,
    lambda: alone("doc_ufcn.model", "DocUFCNModel")(4),
    x_rgb,
    [*seq("conv_block{}.3", 1, 4), "conv_block3.7"],
    "U texts",
    alts={3: ["in:last_conv"]},
    notes="blocks work and go up, at the bottom too; the parent lays skips beside, the last before the logits",
)


def flash():
    config = types.SimpleNamespace(width_mult=0.25, num_classes=3, input_size=64)
    loose("yaml")
    return alone("flashseg.models.build", "FlashSeg")(config)


add(
    "flashseg.FlashSeg",
    "flashseg",
    2,
    flash,
    x_rgb,
    ["neck.fpn_convs.2", "neck.fpn_convs.1", "head.fuse_conv"],
    "FPN scenes",
    alts={2: ["neck.fpn_convs.0", "head.classifier.2"]},
    notes="smoothed levels are laid side by side and fused, and the head works on them; the logits are resized",
)
