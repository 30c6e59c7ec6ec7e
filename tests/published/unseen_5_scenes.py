"""More of the fifth list, also blind: ground, fires, faces, road scenes, videos, depth, matting, colours."""

import sys
import types

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-5")
TERRAIN = "terrainseg.models."
add(
    "terrainseg.CNXTUNet",
    "terrainseg",
    2,
    lambda: alone(TERRAIN + "convnextunet", "defineCNXTUNet")(6, 3, (8, 16, 32, 64, 128), (1, 1, 1, 1), 1),
    lambda: (rand(1, 6, 64, 64),),
    seq("up{}", 4, 0, -1),
    notes="ConvNeXt blocks; skips are projected and gated",
)
CUNET = seq("d{}", 1, 5)
add(
    "terrainseg.CUNet",
    "terrainseg",
    2,
    lambda: alone(TERRAIN + "customunet", "defineCUNet")(
        4, 3, "swish", True, True, True, True, (8, 16, 24, 32), (32, 24, 16, 8), 64, dil_chn=(32,) * 4
    ),
    lambda: (rand(1, 4, 64, 64),),
    ["btn", *CUNET],
    ladders=[CUNET],
    notes="ASPP at the bottleneck; residual blocks; gates on channels and on skips; what goes up is worked on before",
)
add(
    "tensor-ee.ResNet18UNet",
    "tensor-ee",
    2,
    lambda: alone("tensor_ee.resnet_models", "ResNet18UNet")(2, 16),
    lambda: (rand(1, 2, 64, 64),),
    seq("dec{}", 4, -1, -1),
    notes="a block without a skip after the last; a sigmoid",
)


class Module(nn.Module):
    """As fastai's: its classes need not call what is above them."""

    def __new__(cls, *_, **more):
        made = super().__new__(cls)
        nn.Module.__init__(made)
        return made

    def __init__(self):
        pass


def banet():
    loose("fastai.vision.all", torch=torch, nn=nn, Module=Module)
    return alone("banet.models", "BA_Net")(5, 2, 16)


BURNED = seq("ustconv{}", 6, 2, -1)
STEPS = [name for block in BURNED[1:] for name in (f"{block}.upstconv.0", block)]
add(
    "banet.BA_Net",
    "banet",
    3,
    banet,
    lambda: (rand(1, 5, 16, 64, 64),),
    [*BURNED, "relu"],
    ladders=[[BURNED[0], *STEPS, "ustconv2.upstconv.0", "relu"]],
    notes="films; blocks go up in space and then in time; skips are laid beside them and both go up; an LSTM",
)


def face_parsing():
    named("torch.utils.model_zoo", "load_url")
    sys.modules["torch.utils.model_zoo"].load_url = lambda *_, **more: {}
    return alone("face_parsing.model", "BiSeNet")(5)


add(
    "face-parsing.BiSeNet",
    "face-parsing",
    2,
    face_parsing,
    x_rgb,
    ["cp.conv_head32", "ffm"],
    "U faces DS",
    alts={1: ["conv_out.conv"]},
    notes="a pooled map is added at the bottom; three logits are returned, two of them of one level",
)
add(
    "bisenetv2.BiSeNetV2",
    "fry-bisenetv2",
    2,
    lambda: alone("bisenetv2_predict.backbone", "BiSeNetV2")(5, aux_mode="eval"),
    x_rgb,
    ["bga.conv"],
    "U scenes",
    ladders=[["head.conv"], ["in:bga.up2", "bga.conv"], ["in:bga.up2", "head.conv"]],
    notes="two ways that gate each other on two levels, then go up once",
)


class Recall(nn.Module):
    """The package's encoder of a frame and its decoder, with what is remembered in place of what was seen before."""

    def __init__(self):
        super().__init__()
        make = named("torchvision.models", "resnet50")
        named("torchvision", "models").resnet50 = lambda weights: make(weights=None)
        self.encoder = alone("stcnbuf.model.modules", "KeyEncoder")()
        self.key_comp = nn.Conv2d(1024, 512, 3, padding=1)
        self.decoder = alone("stcnbuf.model.eval_network", "Decoder")()

    def forward(self, frame, memory):
        f16, f8, f4 = self.encoder(frame)
        return self.decoder(torch.cat([memory, self.key_comp(f16)], 1), f8, f4)


RECALL = ["decoder.up_16_8", "decoder.up_8_4"]
add(
    "stcnbuf.Decoder",
    "stcnbuf",
    2,
    Recall,
    lambda: (rand(1, 3, 64, 64), rand(1, 512, 4, 4)),
    RECALL,
    "U video multi-input",
    ladders=[["decoder.compress", *RECALL]],
    notes="blocks go up, add and work; pre-activation; the head begins with an activation; logits are enlarged",
)


class Depth(nn.Module):
    """An encoder that returns a list of maps, and a decoder that takes it."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x):
        return self.decoder(self.encoder(x))


def monodepth():
    encoder = alone("networks.resnet_encoder", "ResnetEncoder")(18, False)
    return Depth(encoder, alone("networks.depth_decoder", "DepthDecoder")(encoder.num_ch_enc))


OWN = seq("decoder.decoder.{}", 3, 10, 2)
add(
    "monodepth2.DepthDecoder",
    "monodepth2",
    2,
    monodepth,
    x_rgb,
    ["decoder.decoder.2", *OWN],
    "U depth DS",
    ladders=[
        ["decoder.decoder.1", *OWN],
        ["decoder.decoder.0", "decoder.decoder.1", *OWN],
        ["decoder.decoder.0", "decoder.decoder.2", *OWN],
    ],
    notes="a block before and one after going up, on the bottleneck too; own outputs of the four finest levels",
)
DPT = "depth_head.scratch."
add(
    "depth-anything.DepthAnythingV2",
    "jkp-depth-anything-v2",
    2,
    lambda: alone("depth_anything_v2.dpt", "DepthAnythingV2")("vits", 16, [12, 16, 24, 32]),
    lambda: (rand(1, 3, 56, 56),),
    [*(f"{DPT}refinenet{i}" for i in (4, 3, 2)), DPT + "output_conv1", DPT + "output_conv2.1"],
    "U depth vit",
    alts={3: [DPT + "refinenet1"]},
    notes="DPT; the head goes up by 1.75 and has two layers more; the output has no channel",
)


class Frozen(nn.Module):
    """Maps of a layer of 36 by 36 tokens with a class token before them, four times over."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 24, 3, 2, 1) for _ in range(4))

    def forward(self, x):
        made = (layer(x).flatten(2).transpose(1, 2) for layer in self.layers)
        return [torch.cat([tokens[:, :1], tokens], 1) for tokens in made]


def anime():
    return Depth(Frozen(), alone("anime_seg.dinoV2.dinoV2_model", "UNetPlusPlusDecoder")(3, 24, 64))


add(
    "anime-seg.UNetPlusPlusDecoder",
    "anime-seg",
    2,
    anime,
    lambda: (rand(1, 3, 72, 72),),
    ["decoder.base_fusion", *(f"decoder.dec_level{i}.attn" for i in (1, 2, 3)), "decoder.dec_level4.spatial_attn"],
    "U vit",
    alts={4: ["decoder.head.1"]},
    notes="tokens of four layers are merged, then laid beside each level, enlarged; blocks are got by name; gates",
)
NORM = dict(type="BN")


def mmagic(file, name):
    """The network of a file, without what the package's __init__ files ask for."""
    separable = alone("mmagic.models.archs.separable_conv_module", "DepthwiseSeparableConvModule")
    aspp = named("mmagic.models.archs.aspp", "ASPP")
    vars(sys.modules["mmagic.models.archs"]).update(ASPP=aspp, DepthwiseSeparableConvModule=separable)
    return alone("mmagic.models.editors." + file, name)


def indexnet():
    encoder = mmagic("indexnet.indexnet_encoder", "IndexNetEncoder")(4, norm_cfg=NORM)
    return Depth(encoder, mmagic("indexnet.indexnet_decoder", "IndexNetDecoder")(160, norm_cfg=NORM))


INDEXED = seq("decoder.decoder_layers.{}", 7)
INDEXED = [INDEXED[i] for i in (1, 2, 3, 5, 6)]
ASPP, HEAD = "encoder.dconv", "decoder.pred.0"
add(
    "mmagic.IndexNet",
    "mmagic",
    2,
    indexnet,
    lambda: (rand(1, 4, 64, 64),),
    [ASPP, *INDEXED],
    "U matting",
    ladders=[INDEXED, [*INDEXED[:-1], HEAD], [ASPP, *INDEXED[:-1], HEAD]],
    notes="indices of the encoder gate what comes up; two skips on two of the levels; ASPP; a head of two layers",
)


class Coloured(nn.Module):
    """Takes the three images that the network is given apart, and returns the colours first."""

    def __init__(self):
        super().__init__()
        self.net = mmagic("inst_colorization.colorization_net", "ColorizationNet")(4, 2, "batch")

    def forward(self, grey, hints, mask):
        classes, colours, _ = self.net(grey, hints, mask)
        return colours, classes


add(
    "mmagic.ColorizationNet",
    "mmagic",
    2,
    Coloured,
    lambda: (rand(1, 1, 64, 64), rand(1, 2, 64, 64), rand(1, 1, 64, 64)),
    seq("net.model{}", 8, 11),
    "U colours multi-input DS",
    notes="goes down by slicing; the parent adds, then a block begins with an activation; classes at a quarter",
)


def panoptic():
    loose("mmdet.structures")
    loose("mmdet.utils", **dict.fromkeys(("ConfigType", "MultiConfig", "OptConfigType", "OptMultiConfig"), dict))
    loose("mmdet.models.utils")
    up = alone("mmdet.models.layers.conv_upsample", "ConvUpsample")
    sys.modules["mmdet.models.layers"].ConvUpsample = up
    encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
    neck = alone("mmdet.models.necks.pafpn", "PAFPN")([64, 128, 256, 512], 32, 4)
    head = alone("mmdet.models.seg_heads.panoptic_fpn_head", "PanopticFPNHead")
    named("mmdet.registry", "MODELS").register_module("CrossEntropyLoss", module=nn.CrossEntropyLoss)
    return nn.Sequential(encoder, neck, head(2, 2, 32, 32, loss_seg=dict(type="CrossEntropyLoss")))


add(
    "mmdet.PAFPN-PanopticFPNHead",
    "mmdet",
    2,
    panoptic,
    x_rgb,
    [*seq("1.pafpn_convs.{}", 2, -1, -1), "in:2.conv_logits"],
    "FPN",
    notes="goes up and down again; all levels are brought to one size by blocks and added; the sum is returned too",
)
TAKEN = seq("to_fused.{}.0", 3, 0, -1)
add(
    "segformer-pytorch.Segformer",
    "segformer-pytorch",
    2,
    lambda: alone("segformer_pytorch.segformer_pytorch", "Segformer")(
        dims=(8, 16, 24, 32), heads=(1, 1, 2, 2), decoder_dim=16
    ),
    x_rgb,
    [*TAKEN, "to_segmentation.0"],
    "FPN vit",
    alts={3: ["to_fused.0.0"]},
    notes="each level is brought to one width and one size, and laid side by side; two layers without activation",
)


class Segmented(nn.Module):
    """Stands for what the package's networks are made from, which trains and exports them."""

    def __init__(self, use_aux_heads=False):
        super().__init__()
        self.use_aux_heads = use_aux_heads

    def init_params(self):
        pass


class Anything(types.ModuleType):
    """Has every name."""

    def __getattr__(self, name):
        return name


def gradients(file, name):
    """The package's network of a file, without what it has for training and data."""
    here = "super_gradients."
    segmented = here + "training.models.segmentation_models."
    loose(here + "common.factories.base_factory", BaseFactory=dict)
    for package in ("common.factories.processing_factory", "training.pipelines.pipelines"):
        loose(here + package)
    for package in ("training.processing.processing", "training.utils.media.image", "training.utils.predict"):
        loose(here + package)
    loose(here + "common.registry.registry", register_model=lambda _: lambda made: made)
    loose(here + "common.object_names", Models=Anything("Models"), ContextModules=Anything("ContextModules"))
    loose(here + "common.decorators.factory_decorator", resolve_param=lambda *_: lambda made: made)
    kinds = "SupportsReplaceInputChannels", "HasPredict", "SupportsInputShapeCheck", "ExportableSegmentationModel"
    loose(here + "module_interfaces", **{kind: type(kind, (), {}) for kind in kinds})
    loose(here + "training.utils", get_param=lambda params, key, *default: params.get(key, *default), HpmStruct=dict)
    loose(segmented + "segmentation_module", SegmentationModule=Segmented)
    for kind in ("strict_load", "deep_learning_task", "evaluation_type", "multi_gpu_mode"):
        loose(here + "common.data_types.enum." + kind)
    up = alone(here + "common.data_types.enum.upsample_mode", "UpsampleMode")
    down = alone(here + "common.data_types.enum.downsample_mode", "DownSampleMode")
    vars(sys.modules[here + "common"]).update(UpsampleMode=up)
    vars(sys.modules[here + "common.data_types.enum"]).update(UpsampleMode=up, DownSampleMode=down)
    blocks = (
        ("conv_bn_relu_block", "ConvBNReLU"),
        ("anti_alias", "AntiAliasDownsample"),
        ("pixel_shuffle", "PixelShuffle"),
    )
    for where, block in blocks:
        made = alone(here + "modules." + where, block)
        vars(sys.modules[here + "modules"])[block] = made
    vars(sys.modules[here + "modules"])["Residual"] = named(here + "modules.skip_connections", "Residual")
    alone(segmented + "common", "SegmentationHead")
    sys.modules[here + "training.models"].SgModule = Segmented
    return alone(segmented + file, name)(dict(num_classes=5))


add(
    "super-gradients.PPLiteSegT",
    "super-gradients",
    2,
    lambda: gradients("ppliteseg", "PPLiteSegT"),
    lambda: (rand(1, 3, 128, 128),),
    seq("decoder.up_stages.{}", 3),
    "U scenes",
    alts={2: ["seg_head.0.seg_head.0"]},
    notes="pools at the bottom, where the same merge is done as further up; gates on positions; a head of two layers",
)
REGSEG = ["decoder.conv_bn_relu", "head.head.0"]
add(
    "super-gradients.RegSeg48",
    "super-gradients",
    2,
    lambda: gradients("regseg", "RegSeg48"),
    x_rgb,
    REGSEG,
    "U scenes",
    ladders=[["decoder.projections.2", *REGSEG]],
    notes="one skip is added and one laid beside; the last is worked on by the head",
)
