"""More of the ninth list, also blind: poses and films, spectra of images, pictures that are mended or made."""

import types
from typing import Literal

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-9")

FLOWS = "deepethogram.flow_generator.models."
add(
    "deepethogram.TinyMotionNet",
    "deepethogram",
    2,
    lambda: alone(FLOWS + "TinyMotionNet", "TinyMotionNet")(3),
    lambda: (rand(1, 9, 64, 64),),
    ["conv4", "xconv3", "xconv2"],
    "U DS films",
    notes="makes logits of three levels, the coarsest too, and brings them up beside; at half the size of the image",
)
add(
    "deepethogram.TinyMotionNet3D",
    "deepethogram",
    3,
    lambda: alone(FLOWS + "TinyMotionNet3D", "TinyMotionNet3D")(4),
    lambda: (rand(1, 3, 4, 64, 64),),
    ["conv5", "xconv3", "xconv2"],
    "U DS films",
    notes="shrinks two axes only; makes logits of three levels, the coarsest too; layers work on skips; cropped",
)
add(
    "deepethogram.FlowNetS",
    "deepethogram",
    2,
    lambda: alone(FLOWS + "FlowNetS", "FlowNetS")(2),
    lambda: (rand(1, 6, 128, 128),),
    ["conv6_1", *seq("in:predict_flow{}", 5, 1, -1)],
    "U DS films",
    notes="FlowNet: no layers after a skip is laid beside; logits of five levels, which are returned in train mode",
)
DRIFT = "drifting_models.features.mae"


class Masked(nn.Module):
    """The package's network, which hides nothing, so that it always makes the same."""

    def __init__(self, architecture, stages):
        super().__init__()
        config = alone(DRIFT, "LatentResNetMAEConfig")
        more = dict(base_channels=8, stages=stages, mask_ratio=0.0, blocks_per_stage=1)
        self.net = named(DRIFT, "LatentResNetMAE")(config(encoder_arch=architecture, in_channels=3, **more))

    def forward(self, x):
        return self.net(x)[0]


LAYERS = seq("net.decoder.{}", 3)
add(
    "drift-models.resnet_unet",
    "drift-models",
    2,
    lambda: Masked("resnet_unet", 3),
    x_rgb,
    LAYERS,
    "U",
    ladders=[LAYERS[:2]],
    notes="blocks go up, add a skip and work; the last only goes up, and makes the picture",
)
add(
    "drift-models.legacy_conv",
    "drift-models",
    2,
    lambda: Masked("legacy_conv", 3),
    x_rgb,
    LAYERS,
    "U noskip",
    notes="no skips; layers go up, each with a norm and an activation, and the last makes the picture",
)
add(
    "drift-models.paper_resnet34_unet",
    "drift-models",
    2,
    lambda: Masked("paper_resnet34_unet", 4),
    x_rgb,
    seq("net.paper_decoder_stages.{}", 3),
    "U",
    notes="residual blocks down; blocks go up, lay a skip beside and work",
)


def spectral(file, name, *given, **more):
    loose("sync_batchnorm", SynchronizedBatchNorm2d=nn.BatchNorm2d, SynchronizedBatchNorm3d=nn.BatchNorm3d)
    return alone(f"hsir.model.{file}", name)(*given, **more)


def bands():
    return (rand(1, 1, 5, 32, 32),)


add(
    "hsir.U_Net_3D",
    "hsir",
    3,
    lambda: spectral("unet3d", "U_Net_3D"),
    bands,
    seq("Up_conv{}", 5, 1, -1),
    "U restoration",
    notes="shrinks two axes only; residual blocks; the image is added",
)
add(
    "hsir.GRUnet",
    "hsir",
    3,
    lambda: spectral("grunet", "GRUnet"),
    bands,
    seq("Up_conv{}", 5, 1, -1),
    "U restoration",
    notes="recurrent layers over the third axis, back and forth; shrinks two axes only; the image is added",
)
SUMS = seq("decoder.layers.{}", 0, 5, 2)
add(
    "hsir.QRNNREDC3D",
    "hsir",
    3,
    lambda: spectral("qrnn3d", "qrnn3d"),
    bands,
    SUMS,
    "U restoration",
    alts={2: ["in:reconstructor"]},
    notes="recurrent layers over the third axis; the parent adds a skip after each layer, at the bottom too",
)


class Made(nn.Module):
    """The package's autoencoder without chance, or its U."""

    def __init__(self, name):
        super().__init__()
        loose("kiui.nn.attention_xformers")
        loose("kiui.typing", Literal=Literal, Tuple=tuple)
        more = dict(down_channels=(32, 32, 64), up_channels=(64, 32, 32), layers_per_block=1, mid_attention=False)
        self.kept = dict(sample=False) if name == "VAE" else {}
        if name == "UNet":
            more |= dict(down_attention=[False] * 3, up_attention=[False] * 3)
        self.net = alone("kiui.nn.unet_2d" if name == "UNet" else "kiui.nn.vae_2d", name)(**more)

    def forward(self, x):
        made = self.net(x, **self.kept)
        return made[0] if isinstance(made, tuple) else made


for name, taken, notes in (
    ("UNet", "net.up_blocks.{}.nets.1", "skips at the bottleneck too"),
    ("VAE", "net.decoder.up_blocks.{}.nets.1", "no skips; on the coarsest level too a block works and goes up"),
):
    add(
        f"kiui.{name}",
        "kiui",
        2,
        lambda name=name: Made(name),
        x_rgb,
        seq(taken, 3),
        "U" if name == "UNet" else "U noskip",
        notes=notes + "; blocks end by going up, with a layer after it; pre-activation",
    )


class Calibrated(nn.Module):
    """The parts of the package's network that make maps, with the bases that it draws kept."""

    def __init__(self):
        super().__init__()
        make = alone("kiui.geocalib", "MSCAN")
        self.backbone, self.fine = make(), named("kiui.geocalib", "LowLevelEncoder")()
        self.decoder = named("kiui.geocalib", "PerspectiveDecoder")()
        bases = nn.functional.normalize(rand(1, 512, 64), dim=1)
        for one in self.modules():
            if hasattr(one, "_build_bases"):
                one._build_bases = lambda *_, **__: bases

    def forward(self, x):
        coarse, fine = (one(dict(image=x))["features"] for one in (self.backbone, self.fine))
        return self.decoder(dict(features=dict(hl=coarse, ll=fine)))["up_field"]


CAMERA = "decoder.up_head.decoder."
add(
    "kiui.GeoCalibNet",
    "kiui",
    2,
    Calibrated,
    x_rgb,
    [CAMERA + name for name in ("align", "out_conv", "ll_fusion")],
    "U multi poses",
    notes="levels of the encoder are brought to one size as they are; goes up twice, then a skip of its own encoder",
)
UNETS = "luxonis_train.nodes.blocks.unet"


def luxonis(kind):
    loose("typeguard", typechecked=lambda made: made)
    alone("luxonis_train.nodes.blocks.utils", "forward_gather")
    encoder = alone(UNETS, "UNetEncoder" if kind == "UNetDecoder" else "SimpleEncoder")
    return nn.Sequential(encoder(3, 8, [1, 2, 4]), named(UNETS, kind)(8, 3, [1, 2, 4]))


for name in ("UNetDecoder", "SimpleDecoder"):
    add(
        f"luxonis-train.{name}",
        "luxonis-train",
        2,
        lambda name=name: luxonis(name),
        x_rgb,
        seq("1.blocks.{}", 3),
        "U" if name == "UNetDecoder" else "U noskip",
        notes="the encoder is a Sequential; "
        + ("its list of maps is emptied" if name == "UNetDecoder" else "no skips"),
    )


def translated():
    return alone("JwzTumor.domain.models.generator_resnet15", "Resnet15Generator")(1, 1, 8, 2)


add(
    "jwztumor.Resnet15Generator",
    "jwztumor",
    2,
    translated,
    lambda: (rand(1, 1, 64, 64),),
    ["decoder.2", "decoder.5"],
    "U noskip gan",
    notes="residual blocks at the bottom; layers go up, a norm, an activation; a layer more and a tanh",
)


class Diagnosed(nn.Module):
    """The package's network, of whose outputs the map is given."""

    def __init__(self):
        super().__init__()
        model = dict(encoder_channels=[8, 16, 24, 32], use_mamba=False, prompt_dim=16, challenge_dim=4)
        config = types.SimpleNamespace(model=types.SimpleNamespace(**model), dataset=types.SimpleNamespace())
        self.net = alone("JwzTumor.models.dgbc_mtl_net", "DGBC_MTLNet")(config)

    def forward(self, x):
        return self.net(x)["seg_logits"]


BREAST = [f"net.decoder.up_block_{i}" for i in (43, 32, 21, 10)]
BRIDGE = "in:net.decoder.coarse_head"
add(
    "jwztumor.DGBC_MTLNet",
    "jwztumor",
    2,
    Diagnosed,
    lambda: (rand(1, 1, 64, 64),),
    BREAST,
    "U multi DS",
    ladders=[BREAST[1:], [*BREAST[:2], BRIDGE, *BREAST[2:]], [BRIDGE, *BREAST]],
    notes="all levels are summed at half size, with logits of its own, and go down again; the parent lays skips beside",
)
