"""More of the eleventh list, also blind: key points, edges, texts, surfaces."""

import types

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-11")


def points():
    return alone("kornia.feature.disk._unets.unet", "Unet")(3, [16, 16, 8, 9], [8, 16, 16, 16, 16])


add(
    "kornia.DISK-Unet",
    "kornia",
    2,
    points,
    x_rgb,
    seq("path_up.{}", 4),
    "U points",
    notes="pre-activation; the last block makes the logits as the others make their maps",
)


class Described(nn.Module):
    """As the package builds it, but narrow."""

    def __init__(self):
        super().__init__()
        where = "kornia.feature.dedode."
        refine = alone(where + "decoder", "ConvRefiner")
        widths = {"8": (512, 40), "4": (280, 40), "2": (152, 32), "1": (80, 17)}
        layers = {
            scale: refine(a, 32, b, hidden_blocks=2, residual=True, amp=False) for scale, (a, b) in widths.items()
        }
        decoder = alone(where + "decoder", "Decoder")(nn.ModuleDict(layers), num_prototypes=16)
        self.net = alone(where + "descriptor", "DeDoDeDescriptor")(alone(where + "encoder", "VGG19")(), decoder)

    def forward(self, x):
        return self.net(x)


SCALES = "8421"
add(
    "kornia.DeDoDeDescriptor",
    "kornia",
    2,
    Described,
    x_rgb,
    [f"in:net.decoder.layers.{scale}.out_conv" for scale in SCALES],
    "U points",
    alts={i: [f"net.decoder.layers.{scale}"] for i, scale in enumerate(SCALES)},
    notes="a layer makes of each level both logits, which are summed, and what goes on to the next; blocks got by name",
)
SIDES = [f"up_block_{i}.features.1" for i in (6, 5, 4, 3, 2, 1)]
UPWARDS = seq("up_block_{{}}.features.{}", 1, 11, 3)
EDGES = [level.format(6) for level in UPWARDS]
add(
    "kornia.DexiNed",
    "kornia",
    2,
    lambda: alone("kornia.models.dexined", "DexiNed")(False),
    x_rgb,
    EDGES,
    "FPN edges",
    ladders=[
        EDGES[1:],
        [level.format(5) for level in UPWARDS],
        [*SIDES[:1], *SIDES[2:5], "in:block_cat"],
        [*SIDES[1:5], "in:block_cat"],
        SIDES[1:5],
        [SIDES[0], *SIDES[2:5]],
        [*EDGES, "in:block_cat"],
        [*EDGES[1:], "in:block_cat"],
    ],
    notes="layers bring each level up to full size, step by step, and make an edge of it; these are laid side by side",
)


def bubbles(name):
    loose("comic_text_detector.models.yolov5.yolo")
    loose("comic_text_detector.utils.weight_init")
    loose("comic_text_detector.utils.yolov5_utils")
    return alone("comic_text_detector.basemodel", name)


class Bubbles(nn.Module):
    """An encoder as YOLO's, of the package's blocks, and its decoder."""

    def __init__(self, lines=False):
        super().__init__()
        self.text = bubbles("UnetHead")()
        self.lines = bubbles("DBHead")(64) if lines else None
        conv, block = (named("comic_text_detector.models.yolov5.common", name) for name in ("Conv", "C3"))
        layers = [conv(3, 32, 6, 2, 2)]
        for width in (64, 128, 256, 512):
            layers += [conv(width // 2, width, 3, 2), block(width, width)]
        self.encoder = nn.ModuleList([*layers, conv(512, 512)])

    def forward(self, x):
        maps = []
        for layer in self.encoder:
            x = layer(x)
            maps.append(x)
        if self.lines is None:
            return self.text(*maps[1::2])
        return self.lines(*self.text(*maps[1::2], forward_mode=1))


WORKED = [f"text.upconv{i}.conv.0" for i in (0, 2, 3, 4, 5)]
MADE = [f"text.upconv{i}" for i in (0, 2, 3, 4, 5)]
add(
    "mokuro.UnetHead",
    "mokuro",
    2,
    Bubbles,
    lambda: (rand(1, 3, 128, 128),),
    [*WORKED, "text.upconv5"],
    "U texts",
    ladders=[[*WORKED[1:], "text.upconv5"], MADE],
    notes="blocks work and go up, at the bottom too; the parent lays skips beside; one layer more goes up; a sigmoid",
)
LINES = ["text.upconv0.conv.0", "text.upconv2.conv.0", "lines.upconv3.conv.0", "lines.upconv4.conv.0"]
RETURNED = ["text.upconv0", "text.upconv2", "lines.upconv3"]
ENDS = [[f"lines.{head}.2", f"lines.{head}.5"] for head in ("binarize", "thresh")]
add(
    "mokuro.DBHead",
    "mokuro",
    2,
    lambda: Bubbles(True),
    lambda: (rand(1, 3, 128, 128),),
    [*LINES, *ENDS[0]],
    "U texts multi",
    ladders=[
        [*begin, *end]
        for begin in (LINES, LINES[1:], RETURNED)
        for end in (*ENDS, *(["lines.conv", last] for _, last in ENDS), ["lines.conv"])
    ],
    notes="blocks work and go up, at the bottom too; two heads work and go up twice; their maps are laid side by side",
)


def surfaces(file, *args):
    torch.hub.load = lambda *_, **__: named("geffnet", "tf_efficientnet_b5_ap")(pretrained=False)
    return alone(f"invokeai.backend.image_util.normal_bae.nets.{file}", "NNET")(*args)


SURFACES = seq("decoder.up{}", 1, 5)
add(
    "invokeai.baseline-NNET",
    "invokeai",
    2,
    lambda: surfaces("baseline"),
    x_rgb,
    SURFACES,
    "U normals",
    notes="a projection at the bottom; logits are resized to the image",
)


class Surfaces(nn.Module):
    """The finest of the maps that are returned first, and the others."""

    def __init__(self):
        super().__init__()
        self.net = surfaces("NNET", types.SimpleNamespace(architecture="GN", sampling_ratio=0.4, importance_ratio=0.7))

    def forward(self, x):
        return self.net(x)[0][::-1]


NORMALS = [f"net.{name}" for name in SURFACES]
add(
    "invokeai.NNET",
    "invokeai",
    2,
    Surfaces,
    x_rgb,
    [*NORMALS, "net.decoder.out_conv_res1.5"],
    "U DS normals",
    ladders=[NORMALS],
    notes="logits of each level are resized and laid beside what is resized of the next; layers work on flat pixels",
)


class Edges(nn.Module):
    """The edges of all levels first, then those of each."""

    def __init__(self):
        super().__init__()
        make = alone("invokeai.backend.image_util.pidi.model", "PiDiNet")
        self.net = make(8, ["cd"] * 16, dil=8, sa=True, convert=True)

    def forward(self, x):
        return self.net(x)[::-1]


GATED = seq("net.attentions.{}", 3, -1, -1)
add(
    "invokeai.PiDiNet",
    "invokeai",
    2,
    Edges,
    x_rgb,
    GATED,
    "FPN DS edges",
    ladders=[[*GATED[:3], "in:net.classifier"]],
    notes="layers work on each level, and edges made of it are resized at once and laid side by side; all are returned",
)


class Named(nn.Module):
    """An encoder that gives its maps by their numbers."""

    def __init__(self):
        super().__init__()
        self.net = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))

    def forward(self, x):
        return {str(i): map for i, map in enumerate(self.net(x))}


class Read(nn.Module):
    """Gives the logits."""

    def __init__(self):
        super().__init__()
        loose("doctr.file_utils", CLASS_NAME="words")
        loose("doctr.models.classification")
        loose("doctr.models.utils")
        loose("doctr.models.detection.linknet.base", LinkNetPostProcessor=dict, _LinkNet=type("Base", (), {}))
        self.net = alone("doctr.models.detection.linknet.pytorch", "LinkNet")(Named(), exportable=True)

    def forward(self, x):
        return self.net(x)["logits"]


add(
    "indic-doctr.LinkNet",
    "indic-doctr",
    2,
    Read,
    x_rgb,
    [*seq("net.fpn.decoders.{}", 3, 1, -1), "net.fpn.decoders.0", "net.classifier.5"],
    "U texts",
    alts={0: ["net.fpn.decoders.2.2"], 1: ["net.fpn.decoders.1.2"]},
    notes="the parent adds a skip; the next block squeezes the sum, goes up and widens; the last stays on its level",
)


class Prototypes(nn.Module):
    """What the package builds masks of."""

    def __init__(self):
        super().__init__()
        loose("fvcore.nn")
        where = "lucid_yolo.models.build"
        self.backbone, self.neck, _ = alone(where, "build_detection_stages")(0.34, 0.25, 1024, 4)
        self.fusion, self.net, _ = alone(where, "build_segmentation_stages")(self.neck.channels, 4, 8)

    def forward(self, x):
        return self.net(self.fusion(self.neck(self.backbone(x))))


add(
    "lucid-yolo.ProtoNet",
    "lucid-yolo",
    2,
    Prototypes,
    lambda: (rand(1, 3, 128, 128),),
    ["neck.bottom_up_p5", "neck.bottom_up_p4", "net.layers.2", "net.layers.4"],
    "FPN",
    notes="a pyramid goes up and down again; its levels are resized and summed; layers work, go up and work",
)
