"""The twelfth list goes on: networks for segmentation, of packages from n to z, written blind like the rest."""

import importlib.util
import itertools
import sys
import types

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-12")


def readings(*levels):
    """All ladders of lists of names, of which each stands for one part of the ladder; the first is the label."""
    return [list(itertools.chain(*chosen)) for chosen in itertools.product(*levels)]


def decoded(net, count, ends):
    """Blocks of one of two decoders, or what is projected of them before all are laid side by side."""
    levels = []
    for name in ("affinity", "lsd"):
        levels.append(seq(net + name + "_decoder.blocks.{}", count))
        levels.append(seq(net + name + "_scale_fusion.projs.{}", count))
    return readings(levels, [[end] for end in ends])


SMALL = dict(base_width=8, bottleneck_channels=32, fusion_width=8)
NEURONS = decoded("", 3, ["affinity_refine", "affinity_head.block"])
add(
    "napari-unispac.ACRLSDneo",
    "napari-unispac",
    2,
    lambda: alone("napari_UniSPAC.segNeuro_neo", "ACRLSDneo")(encoder_widths=(8, 16, 24, 32), **SMALL),
    x2,
    NEURONS[0],
    "U multi neurons",
    ladders=NEURONS[1:],
    notes="two decoders of one encoder; each one's levels are projected, laid side by side and refined, and the first "
    "one's finest map and logits go to the other, detached; the head of the affinities is a block and a layer",
)
PROMPTED = decoded("model_affinity.", 3, ["mask_head.fuse", "mask_head.head.block"])
add(
    "napari-unispac.segEM2d",
    "napari-unispac",
    2,
    lambda: alone("napari_UniSPAC.segNeuro_neo", "segEM2d")(SMALL, 8, prompt_guidance_iters=2),
    lambda: (rand(1, 1, 64, 64), rand(1, 1, 64, 64)),
    PROMPTED[0],
    "U multi multi-input neurons",
    ladders=PROMPTED[1:],
    notes="the network before, without gradients, and a head at full size for the mask that is asked for; a sigmoid",
)
TRACED = decoded("model_affinity.", 2, ["mask_head.fuse", "mask_head.head.block"])
add(
    "napari-unispac.segEM_3d_trace",
    "napari-unispac",
    3,
    lambda: alone("napari_UniSPAC.segNeuro_neo", "segEM_3d_trace")(SMALL, 8),
    lambda: (rand(1, 1, 32, 32, 8), rand(1, 32, 32).round()),
    TRACED[0],
    "U multi multi-input neurons",
    ladders=TRACED[1:],
    notes="as the one before, with a mask of the first slice; one axis shrinks once; a sigmoid",
)
add(
    "neuromodex-vnet-dbs.VNet",
    "neuromodex-vnet-dbs",
    3,
    lambda: alone("neuromodex_vnet_dbs.models.architecture.VNet", "VNet")("xs"),
    x3,
    seq("dec{}", 1, 5),
    "U brain",
    notes="modules go up, with norm and activation; skips are laid beside, residual blocks work",
)
RIBS = "ribline.model.unet.model"
add("ribline.RibUNet", "ribline", 3, lambda: alone(RIBS, "RibUNet")(base_filters=4), x3, ["dec2", "dec1"], "U ribs")


def transformer():
    torch.Tensor.cuda = lambda self: self  # two masks are moved there, whatever there is
    return alone("smz.models.cotr.ResTranUnet", "U_ResTran3D")(num_classes=2)


add(
    "segmentation-model-zoo.U_ResTran3D",
    "segmentation-model-zoo",
    3,
    transformer,
    lambda: (rand(1, 1, 16, 32, 32),),
    ["stage2_de", "stage1_de", "stage0_de"],
    "U vit DS medical",
    notes="tokens of two levels in one sequence; skips are added; logits of all levels but the coarsest; the map is "
    "resized before the last layer",
)


def snakes(name):
    return alone(f"smz.models.dscnet.dscnet_2d.{name}", name)(1, 2, 3, 1.0, True, "cpu", 8, 1)


for made in ("DSCNet", "DSCNet_pro"):
    add(
        f"segmentation-model-zoo.{made}",
        "segmentation-model-zoo",
        2,
        lambda made=made: snakes(made),
        x2,
        ["conv13", "conv15", "conv17"],
        "U vessels",
        notes="three layers work side by side on each level, two of them at moved positions, and a fourth on all; "
        "no blocks: all layers in forward(); a sigmoid",
    )


def slides(name, depth):
    net = named("torchvision.models", f"resnet{depth}")(weights=None)
    return alone("tangle_cnn.unet_wildcat", name)(net, 3, dense=True)


for made, depth in (("ResNetWSLUpsample", 50), ("ResNet18WSLUpsample", 18)):
    add(
        f"tangle-cnn.{made}",
        "tangle-cnn",
        2,
        lambda made=made, depth=depth: slides(made, depth),
        x_rgb,
        seq("up{}", 1, 5),
        "U tangles",
        notes="maps of classes at half the size, as for images; the pooling for training is left out",
    )
add(
    "tangle-cnn.UNet",
    "tangle-cnn",
    2,
    lambda: alone("tangle_cnn.unet_wildcat_gmm", "UNet")(3, 2, start_filters=8),
    x_rgb,
    seq("up_blocks.{}", 3),
    "U tangles",
    notes="the norm comes after the activation; the coarsest block is the last of the encoder's list",
)
add(
    "ununennium.UNet",
    "ununennium",
    2,
    lambda: alone("ununennium.models.architectures.unet", "UNet")(3, 4, "resnet18", False),
    x_rgb,
    seq("decoder.blocks.{}", 3),
    "U land",
    notes="logits are resized from a quarter of the size",
)
CHANGED = seq("decoder.dec{}", 4, 0, -1)
add(
    "ununennium.SiameseChangeDetection",
    "ununennium",
    2,
    lambda: alone("ununennium.models.architectures.change_detection", "SiameseChangeDetection")(3, 2, 8),
    lambda: (rand(1, 3, 64, 64), rand(1, 3, 64, 64)),
    CHANGED,
    "U multi-input change",
    ladders=[CHANGED[1:]],
    notes="differences of two images are the skips; the decoder's first layers stand among its others and work at the "
    "bottom before the map goes up, but are built as the encoder's",
)


class Land(nn.Module):
    """The package's encoder and its pyramid."""

    def __init__(self):
        super().__init__()
        self.encoder = alone("ununennium.models.backbones", "ResNetBackbone")("resnet18", 3, False)
        self.head = alone("ununennium.models.heads", "FPNHead")(self.encoder.out_channels, 16, 4)

    def forward(self, x):
        return self.head(self.encoder(x))


add(
    "ununennium.FPNHead",
    "ununennium",
    2,
    Land,
    x_rgb,
    seq("head.output_convs.{}", 3, -1, -1),
    "FPN land",
    notes="levels are summed, smoothed, laid side by side, and one layer makes the logits",
)


def harness():
    loose("ubelt")
    loose("kwcoco", CategoryTree=types.SimpleNamespace(coerce=range))
    alone("netharn.layers.rectify", "rectify_conv")
    sys.modules["netharn"].layers = sys.modules["netharn.layers"]
    sys.modules["netharn"].layers.Module = nn.Module
    net = alone("netharn.models.unet", "UNet")(classes=3, in_channels=1, feature_scale=8)
    net._cache[(8, 1, 96, 96)] = ((188, 188), (4, 4))  # edges worked out here, without the rest of the package
    return net


add(
    "netharn.UNet",
    "netharn",
    2,
    harness,
    lambda: (rand(1, 1, 96, 96),),
    seq("up_concat{}", 4, 0, -1),
    "U valid",
    notes="the image is padded by its mirrored edge, skips are cut, and so are the logits",
)


def service(name, **more):
    for module in ("plotly", "plotly.graph_objects", "albumentations", "tqdm", "dill", "optuna"):
        loose(module)
    return alone("segmentation_lib.src.segmentation", name)(**more)


add(
    "segmentation-lib.UNet16",
    "segmentation-lib",
    2,
    lambda: service("UNet16", num_classes=2, num_filters=4),
    x_rgb,
    ["center", "dec5", "dec4", "dec3", "dec1"],
    "U",
    notes="blocks go up and work; then a skip is laid beside, and both go up; a layer works on the last two",
)
UNPOOLED = readings([[], ["bottle_neck"]], [seq("dec_conv{}", 3)], [["dec_conv3.2"], ["dec_conv3"]])
add(
    "segmentation-lib.SegNet",
    "segmentation-lib",
    2,
    lambda: service("SegNet", out_channels=2, features=8),
    x_rgb,
    UNPOOLED[0],
    "U noskip",
    ladders=UNPOOLED[1:],
    notes="positions taken by their indices; layers of the last level end with the logits; the coarsest level's layers "
    "are like the decoder's, and like the encoder's",
)
UPS = seq("up{}", 1, 5)
add("segmentation-lib.UNet", "segmentation-lib", 2, lambda: service("UNet", num_classes=2), x_rgb, UPS, "U")
add(
    "u2net-fast.U2NET",
    "u2net-fast",
    2,
    lambda: alone("u2net_fast.model", "U2NET")(),
    x_rgb,
    ["stage6", *seq("stage{}d", 5, 0, -1)],
    "U nested DS saliency",
    notes="small U's are blocks; logits of each level, the coarsest too, are resized and fused; sigmoids",
)
add(
    "nimbus-inference.UNet",
    "nimbus-inference",
    2,
    lambda: alone("nimbus_inference.unet", "UNet")(2, 5, 4),
    lambda: (rand(1, 2, 64, 64),),
    seq("expanding_layers.{}", 2, 12, 3),
    "U cells",
    notes="modules that go up, lay the skip beside and work lie in one list; a sigmoid",
)


def scripts(levels, finest, ends):
    """Smoothed levels; the finest of them, or what the head makes before it goes up, or before it does so again."""
    ends = [[end] for end in ends]
    return readings([levels], [ends[0], [finest], ends[0] + ends[1]])


def lines():
    sys.path.insert(0, importlib.util.find_spec("openocr").submodule_search_locations[0])
    parts = dict(Backbone=dict(name="RepSVTR_det"), Neck=dict(name="RSEFPN", out_channels=32, shortcut=True))
    return alone("opendet.modeling.base_detector", "BaseDetector")(parts | dict(Head=dict(name="DBHead", k=50)))


OPEN = scripts(
    seq("neck.inp_conv.{}", 3, 0, -1), "neck.inp_conv.0", ["in:head.binarize.conv2", "in:head.binarize.conv3"]
)
add(
    "openocr-python.BaseDetector",
    "openocr-python",
    2,
    lines,
    x_rgb,
    OPEN[0],
    "FPN text",
    ladders=OPEN[1:],
    notes="smoothed levels are resized and laid side by side; the head works, goes up, and goes up to the logits; in "
    "train mode a second head's logits, and a map made of both, are laid beside them",
)


def page(backbone, neck, head):
    module = "rapidocr.inference_engine.pytorch.networks.architectures.base_model"
    parts = dict(Backbone=dict(det=True, **backbone), Neck=neck, Head=dict(k=50, **head))
    return alone(module, "BaseModel")(dict(model_type="det", **parts))


def tiny():
    """Its smallest, whose smoothed levels are sums that no module makes: they pass one that does nothing."""
    neck = dict(name="RepLKFPN", out_channels=32, dilated_kernel_size=5, shortcut=True)
    net = page(dict(name="PPLCNetV4", model_size="tiny"), neck, dict(name="DBHead"))

    class Marked(type(net.neck)):
        def _inp_forward(self, x, i):
            return self.marks[i](super()._inp_forward(x, i))

    net.neck.marks = nn.ModuleList(nn.Identity() for _ in range(4))
    net.neck.__class__ = Marked
    return net


ENDS = ["head.binarize.relu1", "head.binarize.relu2"]
PAGES = scripts(seq("neck.marks.{}", 3, 0, -1), "neck.marks.0", ENDS)
add(
    "rapidocr.BaseModel-RepLKFPN",
    "rapidocr",
    2,
    tiny,
    x_rgb,
    PAGES[0],
    "FPN text",
    ladders=PAGES[1:],
    notes="smoothed levels, each a sum with a gated map, are resized and laid side by side; the head works, goes up, "
    "and goes up to the logits",
    train=False,
)
AGAIN = scripts(seq("neck.incl{}", 4, 1, -1), "neck.incl1", ENDS)
PATHS = dict(out_channels=64, intracl=True)
add(
    "rapidocr.BaseModel-RepLKPAN",
    "rapidocr",
    2,
    lambda: page(dict(name="PPLCNetV4", model_size="medium"), dict(name="RepLKPAN", **PATHS), dict(name="DBHead")),
    x_rgb,
    AGAIN[0],
    "FPN text",
    ladders=AGAIN[1:],
    notes="a pyramid goes up and down again; blocks work on its maps, which are resized and laid side by side",
    train=False,
)
REFINED = readings([AGAIN[2], AGAIN[0], AGAIN[1]], [["head.cbn_layer.last_3"], ["head"]])
add(
    "rapidocr.BaseModel-PFHeadLocal",
    "rapidocr",
    2,
    lambda: page(dict(name="PPHGNetV2_B4"), dict(name="LKPAN", **PATHS), dict(name="PFHeadLocal", mode="large")),
    x_rgb,
    REFINED[0],
    "FPN text",
    ladders=REFINED[1:],
    notes="as the one before; the map at half the size is resized too, the first chances are laid beside it and others "
    "are made of both; the mean of the chances is returned",
)


class Kept(nn.Module):
    """In place of the class of another library: keeps the settings."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def post_init(self):
        pass


def readable():
    loose("transformers.modeling_outputs", SemanticSegmenterOutput=dict)
    loose("surya.common.pretrained", SuryaPreTrainedModel=Kept)
    loose("surya.common.s3", S3DownloaderMixin=type("Mixin", (), {}))
    loose("surya.detection.model.config")
    widths = dict(widths=(8, 16, 32, 64, 64), depths=(1, 1, 1, 1, 1), strides=(2,) * 5, head_dim=16, num_stages=4)
    head = dict(decoder_layer_hidden_size=16, decoder_hidden_size=32, classifier_dropout_prob=0.0)
    config = types.SimpleNamespace(num_classes=2, num_labels=2, num_channels=3, layer_norm_eps=1e-6, **widths, **head)
    return alone("surya.detection.model.encoderdecoder", "EfficientViTForSemanticSegmentation")(config)


add(
    "surya-ocr.EfficientViTForSemanticSegmentation",
    "surya-ocr",
    2,
    readable,
    x_rgb,
    [*seq("decode_head.linear_c.{}", 3, 0, -1), "decode_head.activation"],
    "FPN text",
    notes="levels are projected as tokens, resized, laid side by side and fused; logits at a quarter of the size; a "
    "sigmoid",
)
