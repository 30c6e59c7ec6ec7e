"""More of the eighth list, also blind: faces, mattes, texts, pictures that are mended, ground seen from above."""

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-8")


def pykit(name):
    return lambda: alone(f"gcpds_cv_pykit.segmentation.baseline.models.{name}", name)(out_channels=3, pretrained=False)


FCN = [*(f"decoder.upsample{name}" for name in ("4to3", "3to2", "2to1")), "decoder.refine"]
FCN_ALTS = {0: ["in:decoder.upsample3to2"], 1: ["in:decoder.upsample2to1"], 2: ["in:decoder.final_upsample"]}
add(
    "gcpds.FCN",
    "gcpds-cv-pykit",
    2,
    pykit("FCN"),
    x_rgb,
    FCN,
    "U",
    alts=FCN_ALTS | {3: ["decoder.refine.0"]},
    notes="logits of four levels are brought up by layers and added; the last goes up eightfold, is mended and resized",
)
add(
    "gcpds.UNet",
    "gcpds-cv-pykit",
    2,
    pykit("UNet"),
    x_rgb,
    seq("decoder.layer{}", 4, 0, -1),
    notes="the logits are resized to the image",
)
add(
    "gcpds.ResUNet",
    "gcpds-cv-pykit",
    2,
    pykit("ResUNet"),
    x_rgb,
    seq("decoder.decoder_blocks.{}", 4),
    notes="no skip on the first level, so that each skip is one of a coarser level and is enlarged; residual blocks",
)


def pix2pix():
    return alone("upit.models.junyanz", "UnetGenerator")(3, 3, 6, 8)


PIX = [f"model.model.1{'.model.3' * i}.model" for i in range(4, -1, -1)]
add(
    "upit.UnetGenerator",
    "upit",
    2,
    pix2pix,
    lambda: (rand(1, 3, 128, 128),),
    [*PIX, "model.model.3"],
    "U gan",
    alts={5: ["model"]},
    notes="blocks lie in each other and lay what they were given beside what they made; both go up at once; a tanh",
)
add(
    "upit.ResnetGenerator",
    "upit",
    2,
    lambda: alone("upit.models.junyanz", "ResnetGenerator")(3, 3, 8, n_blocks=2),
    x_rgb,
    ["model.14", "model.17"],
    "U noskip gan",
    notes="residual blocks at the bottom; layers go up, a norm, an activation; a layer more and a tanh",
)
POINTS = [*seq("m0.b3_{}", 1, 5), "in:l0"]
add(
    "facexlib.FAN",
    "facexlib",
    2,
    lambda: alone("facexlib.alignment.awing_arch", "FAN")(1, num_landmarks=5, device="cpu"),
    lambda: (rand(1, 3, 256, 256),),
    POINTS,
    "U faces poses",
    ladders=[POINTS[1:], [*POINTS[:4], "top_m_0"], [*POINTS[1:4], "top_m_0"]],
    notes="an hourglass called by its own levels, got by name; blocks work and go up; skips are added; coordinates",
)


class Matte(nn.Module):
    """The network as it is used: only the matte is made."""

    def __init__(self):
        super().__init__()
        self.net = alone("facexlib.matting.modnet", "MODNet")(backbone_pretrained=False)

    def forward(self, x):
        return self.net(x, True)[2]


add(
    "facexlib.MODNet",
    "facexlib",
    2,
    Matte,
    x_rgb,
    [
        *seq("net.lr_branch.conv_lr{}x", 16, 7, -8),
        "net.hr_branch.conv_hr4x",
        "net.f_branch.conv_f2x",
        "net.f_branch.conv_f.0",
    ],
    "U matting",
    notes="no skips on the coarsest levels; a way comes up beside and meets the other at half the size; then the image",
)
add(
    "facexlib.BiSeNet",
    "facexlib",
    2,
    lambda: alone("facexlib.parsing.bisenet", "BiSeNet")(5),
    x_rgb,
    ["cp.conv_head32", "ffm"],
    "U faces DS",
    alts={1: ["conv_out.conv"]},
    notes="a pooled map is added at the bottom; three logits are returned, two of them of one level",
)


class Faces(nn.Module):
    """With the noise that it keeps, so that it always makes the same."""

    def __init__(self):
        super().__init__()
        loose("basicsr.utils.registry", ARCH_REGISTRY=Registry())
        loose("basicsr.archs.arch_util", default_init_weights=lambda *_, **__: None)
        self.net = alone("gfpgan.archs.gfpganv1_clean_arch", "GFPGANv1Clean")(64, 32, num_mlp=2, narrow=0.0625)

    def forward(self, x):
        return self.net(x, randomize_noise=False)


class Registry:
    """Takes what is registered, and gives it back."""

    def register(self, *_, **__):
        return lambda made: made


STYLES = ["net.stylegan_decoder.style_conv1", *seq("net.stylegan_decoder.style_convs.{}", 1, 9, 2)]
add(
    "gfpgan.GFPGANv1Clean",
    "gfpgan",
    2,
    Faces,
    x_rgb,
    STYLES,
    "U gan restoration DS",
    ladders=[STYLES[1:], seq("net.conv_body_up.{}", 4)],
    notes="a U makes images of each level, and maps that scale those of a generator, which begins with a constant",
)


def restore():
    make = alone("gfpgan.archs.restoreformer_arch", "RestoreFormer")
    more = dict(in_channels=3, resolution=64, z_channels=32, head_size=2, num_res_blocks=1)
    return make(16, 32, 32, 3, (1, 1, 2), attn_resolutions=(16,), **more)


RESTORED = ["decoder.up.2.attn.1", *seq("decoder.up.{}.block.1", 1, -1, -1)]
add(
    "gfpgan.RestoreFormer",
    "gfpgan",
    2,
    restore,
    x_rgb,
    RESTORED,
    "U noskip restoration",
    notes="a book of codes at the bottom, where attention takes the encoder's maps; no other skips; pre-activation",
)


def pictures(file, name):
    for module in ("cv2", "iopaint.helper", "iopaint.schema"):
        loose(module)
    loose("iopaint.plugins.base_plugin")
    return lambda: alone(f"iopaint.plugins.{file}", name)()


SMALL = seq("stage{}d", 5, 0, -1)
add(
    "iopaint.ISNetDIS",
    "iopaint",
    2,
    lambda: pictures("anime_seg", "ISNetDIS")(),
    lambda: (rand(1, 3, 128, 128),),
    SMALL,
    "U saliency",
    notes="small U's in the blocks; a sigmoid",
)
add(
    "iopaint.BriaRMBG",
    "iopaint",
    2,
    lambda: pictures("briarmbg", "BriaRMBG")(),
    lambda: (rand(1, 3, 128, 128),),
    ["stage6", *SMALL],
    "U saliency DS",
    notes="small U's in the blocks; own logits of each level, the coarsest too; the maps are returned as well",
)


class Named(nn.Module):
    """An encoder that gives its maps by their numbers."""

    def __init__(self, *taken):
        super().__init__()
        self.net = named("timm", "create_model")("resnet18", features_only=True, out_indices=taken)

    def forward(self, x):
        return {str(i): map for i, map in enumerate(self.net(x))}


def read(where, name, *taken, **more):
    loose("doctr.file_utils", CLASS_NAME="words")
    loose("doctr.models.classification")
    loose("doctr.models.utils", _bf16_to_float32=lambda made: made)
    bases = "DBNet", "FAST", "TableCenterNet"
    made = dict(DBPostProcessor=dict, FASTPostProcessor=dict, TableCenterNetPostProcessor=dict)
    loose(f"doctr.models.{where}.base", **made, **{f"_{base}": type(base, (), {}) for base in bases})
    return alone(f"doctr.models.{where}.pytorch", name)(Named(*taken), exportable=True, **more)


BRANCHES = [f"fpn.out_branches.{i}.2" for i in (3, 2, 1, 0)]
add(
    "doctr.DBNet",
    "python-doctr",
    2,
    lambda: read("detection.differentiable_binarization", "DBNet", 1, 2, 3, 4, head_chans=32),
    x_rgb,
    [*BRANCHES[:3], "prob_head.2", "prob_head.5"],
    "FPN texts",
    ladders=[[*BRANCHES, "prob_head.5"], BRANCHES, [*BRANCHES[:3], "prob_head.2"]],
    notes="smoothed levels are laid side by side; the head works on them and goes up twice; another in train mode",
)
TABLES = ["dla_up.ida_0.node_1", "dla_up.ida_1.node_2", "ida_up.node_2"]
add(
    "doctr.TableCenterNet",
    "python-doctr",
    2,
    lambda: read("table_structure.tablecenternet", "TableCenterNet", 0, 1, 2, 3, 4, head_conv=16),
    x_rgb,
    TABLES,
    "FPN nested texts",
    alts={0: ["ida_up.proj_2"], 1: ["ida_up.proj_1"], 2: ["hm.1"]},
    notes="levels are brought together over and over, then those that were last; deformable; six outputs by name",
)
TEXTS = seq("neck.reduction.{}", 3, 0, -1)
add(
    "doctr.FAST",
    "python-doctr",
    2,
    lambda: read("detection.fast", "FAST", 1, 2, 3, 4),
    x_rgb,
    [*TEXTS, "prob_head.0"],
    "FPN texts",
    alts={3: ["neck.reduction.0"]},
    notes="a layer works on each level, which is then brought to one size and laid side by side; a head of two layers",
)
