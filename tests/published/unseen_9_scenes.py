"""More of the ninth list, also blind: faces, texts, films and sounds, noise that becomes pictures, forged pictures."""

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-9")


def faces():
    alone("bisnet.resnet", "Resnet18").init_weight = lambda _: None  # it downloads
    return alone("bisnet.model", "BiSeNet")(5)


add(
    "bisnet.BiSeNet",
    "bisnet",
    2,
    faces,
    x_rgb,
    ["cp.conv_head32", "ffm"],
    "U faces DS",
    alts={1: ["conv_out.conv"]},
    notes="a pooled map is added at the bottom; three logits are returned, two of them of one level",
)


class Named(nn.Module):
    """An encoder that gives its maps by their numbers."""

    def __init__(self):
        super().__init__()
        self.return_layers = range(4)
        self.net = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))

    def forward(self, x):
        return {str(i): map for i, map in enumerate(self.net(x))}


class Texts(nn.Module):
    """The package's network without what makes boxes of its map."""

    def __init__(self, kind):
        super().__init__()
        loose("cnstd.model.base", DBPostProcessor=lambda **_: len, _DBNet=type("_DBNet", (), {}))
        make = alone("cnstd.model.dbnet", "DBNet")
        self.net = make(Named(), [64, 128, 256, 512], head_chans=32, fpn_type=kind)

    def forward(self, x):
        return self.net(x, return_model_output=True)["out_map"]


BRANCHES = [f"net.fpn.out_branches.{i}.2" for i in (3, 2, 1, 0)]
TEXTS = [*BRANCHES[:3], "net.prob_head.2", "net.prob_head.5"]
for kind, notes in (("fpn", "summed once"), ("pan", "summed upwards, and downwards in place")):
    add(
        f"cnstd.DBNet-{kind}",
        "cnstd",
        2,
        lambda kind=kind: Texts(kind),
        x_rgb,
        TEXTS,
        "FPN texts",
        ladders=[[*BRANCHES, TEXTS[4]], BRANCHES, TEXTS[:4]],
        notes=f"levels are {notes}; smoothed levels are laid side by side; the head works on them and goes up twice",
    )
add(
    "dis-inference.ISNetDIS",
    "dis-inference",
    2,
    lambda: alone("dis_inference.models.isnet", "ISNetDIS")(),
    lambda: (rand(1, 3, 128, 128),),
    ["stage6", *seq("stage{}d", 5, 0, -1)],
    "U saliency DS",
    notes="small U's in the blocks; own logits of each level, the coarsest too; the maps are returned as well",
)


def iddm(file, name, *channels):
    loose("transformers")
    loose("iddm.utils.logger", get_logger=lambda **_: None)
    return alone(f"iddm.model.networks.{file}", name)(channel=list(channels), image_size=[32, 32])


def noisy():
    return rand(1, 3, 32, 32), torch.tensor([3])


for file, name, notes in (
    ("unet", "UNet", "goes up by interpolation"),
    ("unetv2", "UNetV2", "goes up by layers"),
):
    add(
        f"iddm.{name}",
        "iddm",
        2,
        lambda file=file, name=name: iddm(file, name, 4, 8, 16, 32, 64),
        noisy,
        seq("sa{}", 4, 7),
        "U time",
        notes=notes + "; a block goes up and works, then attention by the parent",
    )
DARK = seq("sa{}", 5, 9)
add(
    "iddm.CSPDarkUnet",
    "iddm",
    2,
    lambda: iddm("cspdarkunet", "CSPDarkUnet", 8, 16, 32, 64, 128),
    noisy,
    DARK,
    "U time",
    ladders=[[*(f"up{i}.conv#0" for i in (2, 3, 4)), DARK[3]], [*(f"up{i}.conv#0" for i in (1, 2, 3, 4)), DARK[3]]],
    notes="one layer works before a block goes up and once more after; attention by the parent",
)


class Classed(nn.Module):
    """The package's network, which leaves out no class by chance."""

    def __init__(self):
        super().__init__()
        self.net = alone("fluidFlow.unet", "Unet1D")(8, 4, dim_mults=(1, 2, 4), channels=2)

    def forward(self, x, time, classes):
        return self.net(x, time, classes, cond_drop_prob=0.0)


add(
    "fluidflow.Unet1D",
    "fluidflow",
    1,
    Classed,
    lambda: (rand(1, 2, 64), torch.tensor([3]), rand(1, 4)),
    ["net.ups.0.2", "net.ups.1.2", "net.final_res_block"],
    "U time cond",
    notes="skips at the bottleneck too; layers that go up lie beside blocks; the first map is the last skip",
)
add(
    "ddpm.Unet",
    "denoising-diffusion-probabilistic-models",
    2,
    lambda: alone("diffusion.Network", "Unet")(8),
    noisy,
    ["ups.0.2", "ups.1.2", "final_res_block"],
    "U time",
    notes="skips at the bottleneck too; layers that go up lie beside blocks; the first map is the last skip",
)


def sounds():
    loose("julius")
    loose("demucs.states", capture_init=lambda made: made)
    return alone("demucs.demucs", "Demucs")(["drums", "bass"], channels=8, depth=3, resample=False)


SOUNDS = seq("encoder.0.6#{}", 3, 6)
add(
    "demucs.Demucs",
    "demucs",
    1,
    sounds,
    lambda: (rand(1, 2, 1024),),
    [*SOUNDS, "decoder.2"],
    "U audio",
    ladders=[SOUNDS, seq("decoder.{}", 3)],
    notes="the parent adds skips, at the bottom too; blocks work and go up, the last makes the output; one GLU for all",
)


class Parts(nn.Module):
    """An encoder and what the package makes of its maps."""

    def __init__(self, encoder, head):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x):
        return self.head(self.encoder(x))


FORGED = "ForensicHub.tasks.imdl.models."


def forged():
    encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
    head = alone(FORGED + "trufor.cmx.decoders.MLPDecoder", "DecoderHead")
    return Parts(encoder, head([64, 128, 256, 512], 2, embed_dim=32))


add(
    "forensichub.DecoderHead",
    "forensichub",
    2,
    forged,
    x_rgb,
    [*seq("head.linear_c{}", 4, 1, -1), "head.linear_fuse"],
    "FPN",
    notes="SegFormer: a layer works on each level as tokens, which are brought to one size and laid side by side",
)


class Config(dict):
    """Gives what it holds as attributes, too."""

    __getattr__, __setattr__, clone = dict.__getitem__, dict.__setitem__, dict.copy


def masked():
    loose("yacs.config", CfgNode=Config)
    make = alone(FORGED + "pscc_net.NLCDetection", "NLCDetection")
    config = alone(FORGED + "pscc_net.seg_hrnet_config", "get_hrnet_cfg")()
    encoder = named(FORGED + "pscc_net.seg_hrnet", "HighResolutionNet")(config)
    return Parts(encoder, make(dict(crop_size=[32, 32])))


add(
    "forensichub.NLCDetection",
    "forensichub",
    2,
    masked,
    lambda: (rand(1, 3, 32, 32),),
    [f"head.getmask{i}@[1]" for i in (4, 3, 2, 1)],
    "U DS",
    notes="HRNet, then logits of each level, the coarsest too, which go up and weight the finer level before its own",
)


class Filled(nn.Module):
    """The package's network, with the noise that it keeps."""

    def __init__(self):
        super().__init__()
        for module in ("cv2", "diffusers", "lama_cleaner.schema", "lama_cleaner.helper"):
            loose(module)
        loose("lama_cleaner.model.base", InpaintModel=object)
        small = dict(channel_base=2048, channel_max=32)
        more = dict(encoder_kwargs=small, synthesis_kwargs=small, mapping_kwargs=dict(num_layers=2))
        self.net = alone("lama_cleaner.model.fcf", "Generator")(32, 0, 32, 64, 3, **more)

    def forward(self, x):
        return self.net(x, None, noise_mode="const")


STYLED = ["net.synthesis.foreword@[0]", *(f"net.synthesis.b{i}@[0]" for i in (8, 16, 32, 64))]
add(
    "lama-cleaner.FcF",
    "lama-cleaner",
    2,
    Filled,
    lambda: (rand(1, 4, 64, 64),),
    STYLED,
    "U gan restoration DS",
    ladders=[STYLED[1:]],
    notes="a generator whose levels add the encoder's maps, the coarsest too; images of each level are summed; spectra",
)


def downscaled():
    make = alone("granitewxc.decoders.downscaling", "ConvEncoderDecoder")
    return nn.Sequential(nn.Conv2d(3, 16, 4, 4), make(16, 16, 1, [2, 2, 2], "pixel_shuffle", [3, 3, 3]))


add(
    "granitewxc.ConvEncoderDecoder",
    "granitewxc",
    2,
    downscaled,
    lambda: (rand(1, 3, 32, 32),),
    seq("1.blocks.{}", 3),
    "U noskip weather",
    notes="no skips; goes up by pixel shuffle, each with an activation; twice the size of the image",
)
