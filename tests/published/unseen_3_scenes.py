"""More of the third list, also blind: depth, matting, saliency, text, flow, change, satellites, faults."""

import collections
import functools
import sys
import types

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x_rgb

add = adder("unseen-3")


def two():
    return rand(1, 3, 64, 64), rand(1, 3, 64, 64)


class Parts(nn.Module):
    """An encoder that returns a list of maps, a decoder that takes it, and a head."""

    def __init__(self, encoder, decoder, head=None):
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head or nn.Identity()

    def forward(self, x):
        return self.head(self.decoder(self.encoder(x)))


CDP = "change_detection_pytorch."


def change(file, name):
    settings = collections.defaultdict(lambda: collections.defaultdict(dict))
    loose("pretrainedmodels.models.torchvision_models", pretrained_settings=settings)
    encoders = alone(CDP + "encoders.resnet", "resnet_encoders")

    def get_encoder(name, in_channels, depth, weights):
        return encoders[name]["encoder"](**encoders[name]["params"] | dict(depth=depth))

    sys.modules[CDP + "encoders"].get_encoder = get_encoder
    return alone(f"{CDP}{file}.model", name)("resnet18", encoder_weights=None, classes=2)


add(
    "cdp.Unet",
    "change-detection-pytorch",
    2,
    lambda: change("unet", "Unet"),
    two,
    seq("decoder.blocks.{}", 5),
    "U siamese",
)
add(
    "cdp.MAnet",
    "change-detection-pytorch",
    2,
    lambda: change("manet", "MAnet"),
    two,
    seq("decoder.blocks.{}", 5),
    "U siamese",
    alts={i: [f"decoder.blocks.{i + 1}.hl_conv"] for i in range(3)},
    notes="a block begins with two convolutions before it goes up",
)
add(
    "cdp.UPerNet",
    "change-detection-pytorch",
    2,
    lambda: change("upernet", "UPerNet"),
    two,
    ["decoder.psp_last_conv", "decoder.p4", "decoder.p3", "decoder.conv_last"],
    "FPN siamese",
)


def uper():
    registry = types.SimpleNamespace(register=lambda made: made)
    loose("terratorch.registry", TERRATORCH_DECODER_REGISTRY=registry)
    encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
    make = alone("terratorch.models.decoders.upernet_decoder", "UperNetDecoder")
    return Parts(encoder, make([64, 128, 256, 512], channels=32), nn.Conv2d(32, 4, 1))


add(
    "terratorch.UperNetDecoder",
    "terratorch",
    2,
    uper,
    lambda: (rand(1, 3, 96, 96),),
    ["decoder.bottleneck", "decoder.fpn_convs.2", "decoder.fpn_convs.1", "decoder.fpn_bottleneck"],
    "FPN",
)
add(
    "bgmv2.MattingBase",
    "backgroundmattingv2",
    2,
    lambda: alone("BackgroundMattingV2.model.model", "MattingBase")("mobilenetv2"),
    two,
    ["aspp", *seq("decoder.relu#{}", 3), "decoder"],
    "U matting",
    notes="ASPP; the last layer merges the images and makes the output, which is then clamped in place",
)


def fba():
    make = alone("FBA_Matting.networks.models", "MattingModule")
    models = named("FBA_Matting.networks", "models")
    return make(models.fba_encoder(), models.fba_decoder())


add(
    "fba.MattingModule",
    "fba-matting",
    2,
    fba,
    lambda: (rand(1, 3, 64, 64), rand(1, 2, 64, 64), rand(1, 3, 64, 64), rand(1, 6, 64, 64)),
    seq("decoder.conv_up{}", 1, 5),
    "U matting",
    alts={3: ["decoder.conv_up4.3"]},
    notes="PPM; the last block makes the output; four inputs",
)


def inspyrenet():
    loose("kornia.morphology")
    swin = alone("transparent_background.backbones.SwinTransformer", "SwinTransformer")
    encoder = swin(embed_dim=32, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=4)
    make = alone("transparent_background.InSPyReNet", "InSPyReNet")
    return make(encoder, [32, 32, 64, 128, 256], 16, [64, 64], None)


add(
    "transparent_background.InSPyReNet",
    "transparent-background",
    2,
    inspyrenet,
    x_rgb,
    ["decoder@[0]", "attention2@[0]", "attention1@[0]", "attention0@[0]"],
    "U saliency",
    notes="a pyramid of images is built from what each level predicts; forward is an attribute of the network",
)
add(
    "easyocr.CRAFT",
    "easyocr",
    2,
    lambda: alone("easyocr.craft", "CRAFT")(),
    x_rgb,
    seq("upconv{}", 1, 5),
    "U heatmaps",
    alts={3: ["conv_cls.7"]},
    notes="two maps are merged at the bottleneck too; the head has five convolutions; channels last, and the features",
)


def dbnet():
    encoder = alone("easyocr.DBNet.backbones.resnet", "resnet18")(pretrained=False)
    return Parts(encoder, alone("easyocr.DBNet.decoders.seg_detector", "SegDetector")(inner_channels=64))


DBNET = ["decoder.out5.0", "decoder.out4.0", "decoder.out3.0", "decoder.binarize.2", "decoder.binarize.5"]
add(
    "easyocr.DBNet",
    "easyocr",
    2,
    dbnet,
    x_rgb,
    DBNET,
    "FPN",
    ladders=[[*DBNET, "decoder.binarize.6"]],
    notes="all levels are laid beside each other; the head goes up twice and a transposed convolution makes the logits",
)
add(
    "controlnet_aux.MLSD-large",
    "controlnet-aux",
    2,
    lambda: alone("controlnet_aux.mlsd.models.mbv2_mlsd_large", "MobileV2_MLSD_Large")(),
    lambda: (rand(1, 4, 64, 64),),
    seq("block{}", 16, 23, 2),
    alts={i: [f"block{2 * i + 17}.conv2"] for i in range(3)} | {3: ["block23.conv2"]},
    notes="two maps are merged at the bottleneck too; a block begins with a convolution before it goes up",
)


def lineart():
    loose("huggingface_hub")
    norm = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    return alone("controlnet_aux.lineart_anime", "UnetGenerator")(3, 1, 5, 8, norm)


INNER = ["model.model.1" + ".model.3" * i for i in range(4)]
add(
    "controlnet_aux.lineart_anime",
    "controlnet-aux",
    2,
    lineart,
    x_rgb,
    [*(name + ".model" for name in reversed(INNER)), "model.model.3"],
    "U gan",
    alts={4: ["model.model.4"]},
    notes="a skip is laid beside each level, and both go up at once; a block holds the next smaller",
)
FUSED = seq("depth_head.scratch.refinenet{}", 4, 0, -1)
add(
    "depth_estimation.DepthAnythingV2",
    "depth-estimation",
    2,
    lambda: alone("depth_estimation.models.depth_anything_v2.modeling_depth_anything_v2", "_DepthAnythingV2Net")(
        "vits", 32, [16, 32, 48, 64]
    ),
    lambda: (rand(1, 3, 112, 112),),
    FUSED,
    "U vit depth",
    ladders=[[*FUSED[:3], "depth_head.scratch.output_conv1", "depth_head.scratch.output_conv2.1"]],
    notes="DPT; the head goes up too; no channels in the output",
)
FUSED = seq("scratch.refinenet{}", 4, 0, -1)
add(
    "vformer.DPTDepth",
    "vformer",
    2,
    lambda: named("vformer.models.dense.dpt", "DPTDepth")("vit_tiny", img_size=(64, 64)),
    x_rgb,
    FUSED,
    "U vit depth",
    ladders=[[*FUSED[:3], "model.head.0", "model.head.3"]],
    notes="DPT on hooks of its own; the head goes up too; no channels in the output",
)
add(
    "vformer.PVTSegmentation",
    "vformer",
    2,
    lambda: named("vformer.models.dense.PVT.segmentation", "PVTSegmentation")(
        img_size=64,
        embedding_dims=[16, 32, 64, 128],
        num_heads=[1, 2, 4, 8],
        depths=[1, 1, 1, 1],
        out_channels=3,
        ape=False,
    ),
    x_rgb,
    seq("head.ups.{}", 1, 8, 2),
    "U vit",
    notes="goes up at the bottleneck and is brought back before it merges; the logits are enlarged by a layer",
)


class Tokens(nn.Module):
    """A network that is also told how many tokens to use."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x, 16)


def moge():
    loose("utils3d")
    loose("huggingface_hub")
    make = alone("moge.model.v1", "MoGeModel")
    return Tokens(make("dinov2_vits14", 2, 64, [64, 32, 32], last_conv_channels=16))


add(
    "moge.MoGeModel-v1",
    "dlr-moge",
    2,
    moge,
    lambda: (rand(1, 3, 56, 56),),
    seq("net.head.upsample_blocks.{}.1", 3),
    "U noskip vit depth",
    notes="coordinates are laid beside each level; checkpoints; two heads; points have their channels last",
)


def flownet():
    loose("fvcore.common.config", CfgNode=types.SimpleNamespace)
    loose("omegaconf", DictConfig=dict)
    encoder = dict(NAME="FlowNetConvEncoder", IN_CHANNELS=6, NORM=None)
    encoder["CONFIG"] = [16, 32, 64, 64, 128, 128, 128, 128, 256, 256]
    decoder = dict(NAME="FlowNetConvDecoder", IN_CHANNELS=256, CONFIG=[128, 64, 32, 16])
    config = types.SimpleNamespace(ENCODER=types.SimpleNamespace(**encoder), DECODER=types.SimpleNamespace(**decoder))
    return alone("ezflow.models.flownet_s", "FlowNetS")(config)


add(
    "ezflow.FlowNetS",
    "ezflow",
    2,
    flownet,
    lambda: (rand(1, 3, 128, 128), rand(1, 3, 128, 128)),
    [*seq("in:decoder.predict_flow.{}", 4), "in:decoder.to_flow"],
    "U flow DS",
    notes="a flow is made of what each level merges, the bottleneck too, and merged further up; a dict",
)
InferenceBatch = collections.namedtuple(
    "InferenceBatch", "pred_score pred_label anomaly_map pred_mask", defaults=[None] * 4
)


def draem():
    loose("anomalib.data", InferenceBatch=InferenceBatch)
    loose("anomalib.models.components.layers")
    return alone("anomalib.models.image.draem.torch_model", "DraemModel")()


add(
    "anomalib.Draem",
    "anomalib",
    2,
    draem,
    x_rgb,
    [f"discriminative_subnetwork.decoder_segment.db{name}" for name in ("_b", "1", "2", "3", "4")],
    "U cascade",
    notes="a first U without skips; a score and one class's probability are returned, without a class axis",
)
add(
    "fastestimator.UNet",
    "fastestimator",
    2,
    lambda: alone("fastestimator.architecture.pytorch.unet", "UNet")((1, 64, 64), 3),
    x2,
    ["bottle_neck.layers.3", "dec4.layers.3", "dec3.layers.3", "dec2.layers.3", "dec1.3"],
    alts={4: ["dec1.4"]},
    ladders=[["bottle_neck", "dec4", "dec3", "dec1.3"], ["bottle_neck", "dec4", "dec3", "dec1.4"]],
    notes="blocks end by going up; the bottleneck is one of them; the last block makes the output",
)
