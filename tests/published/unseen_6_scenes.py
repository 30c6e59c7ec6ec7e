"""More of the sixth list, also blind: skies, skins, texts, faces, poses, moving scenes, colours, debris at sea."""

import sys

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x_rgb

add = adder("unseen-6")


def glasses(name, **more):
    loose("glasses.utils.PretrainedWeightsProvider", pretrained=lambda *_, **__: lambda made: made)
    return alone(f"glasses.models.segmentation.{name.lower()}", name)(**more)


add(
    "glasses.UNet",
    "glasses",
    2,
    lambda: glasses("UNet", n_classes=3),
    x2,
    seq("decoder.layers.{}", 4),
    notes="skips are what hooks kept; the decoder's widths differ from the encoder's",
)


def pfpn():
    glasses("FPN")
    kinds = sys.modules["glasses.models.segmentation.fpn"]
    return kinds.PFPN(n_classes=3, decoder=kinds.PFPNDecoder)


SMOOTH = seq("decoder.segmentation_branch.layers.{}.0.block", 3)
add(
    "glasses.PFPN",
    "glasses",
    2,
    pfpn,
    x2,
    [*SMOOTH, "head.0"],
    "FPN",
    ladders=[["decoder.middle", *seq("decoder.layers.{}", 2), "head.0"]],
    notes="blocks work on each level and bring it to one size, step by step; the sum is enlarged before the head",
)
add(
    "torchkeras.UNet",
    "torchkeras",
    2,
    lambda: alone("torchkeras.vision.unet", "UNet")(3, 2, base_c=8),
    lambda: (rand(1, 3, 72, 56),),
    seq("up{}", 1, 5),
    notes="what comes up is padded where sizes are odd",
)


def fcn():
    loose("fcn")
    net = alone("torchfcn.models.fcn8s", "FCN8s")(5)
    for layer in net.modules():  # they begin at nought
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    return net


add(
    "torchfcn.FCN8s",
    "torchfcn",
    2,
    fcn,
    x_rgb,
    ["upscore2", "upscore_pool4"],
    "U",
    alts={0: ["in:upscore_pool4"], 1: ["in:upscore8"]},
    ladders=[["upscore2", "upscore_pool4", "upscore8"]],
    notes="logits of three levels are brought up by layers and added to each other; the last goes up eightfold",
)
SKY = "modelscope.models.cv."
add(
    "modelscope.skychange-Unet",
    "modelscope",
    2,
    lambda: alone(SKY + "image_skychange.ptsemseg.unet", "Unet")(3, 4, pretrain=False),
    lambda: (rand(1, 4, 64, 64),),
    seq("up{}", 5, 0, -1),
    "U noskip",
    notes="unpooling, no skips; the last block makes the logits, as the others their maps; a sigmoid",
)
add(
    "modelscope.skin-UNet",
    "modelscope",
    2,
    lambda: alone(SKY + "skin_retouching.unet_deploy", "UNet")(3, 2, True, False),
    x_rgb,
    seq("up{}", 1, 5),
    "U DS",
    notes="own logits of each level but the coarsest, enlarged; two of the finest",
)
add(
    "modelscope.demoire",
    "modelscope",
    2,
    lambda: alone(SKY + "image_restoration.demoire_models.nets", "my_model")(8, 8, 16, 1),
    lambda: (rand(1, 3, 64, 64),),
    seq("decoder.decoder_{}.sam_blocks.0", 3, 0, -1),
    "U DS restoration",
    notes="own logits of three levels, made by pixel shuffle; small pyramids inside the blocks",
)


def dressed():
    return alone(SKY + "image_try_on.generator", "ResUnetGenerator")(3, 3, 5, 8)


DRESSED = ["model.model.5" + ".model.6" * i + ".model" for i in (3, 2, 1, 0)]
add(
    "modelscope.ResUnetGenerator",
    "modelscope",
    2,
    dressed,
    x_rgb,
    DRESSED,
    "U gan",
    notes="blocks lie in each other and lay what they were given beside what they made; both go up at once",
)


def recognised(name):
    """A neck and a head for texts, on an encoder."""
    loose("easycv.models.builder", NECKS=Registry(), HEADS=Registry())
    alone("easycv.models.ocr.backbones.det_mobilenet_v3", "SEModule")
    encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
    neck = alone("easycv.models.ocr.necks.db_fpn", name)([64, 128, 256, 512], 32)
    return nn.Sequential(encoder, neck, alone("easycv.models.ocr.heads.db_head", "DBHead")(32))


class Registry:
    """Takes what is registered, and gives it back."""

    def register_module(self, *_, **__):
        return lambda made: made


RSE = seq("1.inp_conv.{}", 3, -1, -1)
add(
    "easycv.RSEFPN-DBHead",
    "pai-easycv",
    2,
    lambda: recognised("RSEFPN"),
    x_rgb,
    [*RSE[:3], "2.binarize.relu1", "2.binarize.relu2"],
    "FPN texts",
    ladders=[[*RSE, "2.binarize.relu2"], RSE, [*RSE[:3], "2.binarize.relu1"]],
    notes="smoothed levels are laid side by side; the head works on them and goes up twice; another in train mode",
)
SNAKE = [*seq("in:1.up_block{}.deconv", 3, -1, -1), "1.up_block0"]


def snake():
    loose("mmocr.registry", MODELS=Registry())
    encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
    neck = alone("mmocr.models.textdet.necks.fpn_unet", "FPN_UNet")([64, 128, 256, 512], 8)
    return nn.Sequential(encoder, neck, nn.Conv2d(8, 5, 1))


add(
    "mmocr.FPN_UNet",
    "mmocr",
    2,
    snake,
    x_rgb,
    SNAKE,
    "U texts",
    ladders=[SNAKE[:4]],
    notes="blocks work and go up, and the activation after that is the parent's; no skip on the last two levels",
)


def fused():
    loose("mmocr.registry", MODELS=Registry())
    encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
    neck = alone("mmocr.models.textdet.necks.fpnf", "FPNF")([64, 128, 256, 512])
    return nn.Sequential(encoder, neck, nn.Conv2d(256, 7, 1))


add(
    "mmocr.FPNF",
    "mmocr",
    2,
    fused,
    x_rgb,
    ["1.lateral_convs.3", "1.fpn_convs.2", "1.fpn_convs.1", "1.output_convs"],
    "FPN texts",
    notes="sums are worked on before they go up; all levels are brought to one size, laid side by side and worked on",
)
V2V = [f"0.encoder_decoder{name}" for name in (".decoder_res2", ".decoder_res1", "")]
GOES_UP = "0.encoder_decoder.decoder_upsample1"


def voxels():
    loose("mmpose.registry", MODELS=Registry())
    return nn.Sequential(alone("mmpose.models.backbones.v2v_net", "V2VNet")(2, 3, 8))


add(
    "mmpose.V2VNet",
    "mmpose",
    3,
    voxels,
    lambda: (rand(1, 2, 16, 16, 16),),
    V2V,
    "U poses",
    ladders=[V2V[1:], [*V2V[:2], GOES_UP], [V2V[1], GOES_UP]],
    notes="blocks work and go up, the bottleneck too; the parent adds skips, and the last sum goes to the head",
)


def poses():
    loose("mmpose.registry", MODELS=Registry())
    make = alone("mmpose.models.backbones.hourglass_ae", "HourglassAENet")
    return nn.Sequential(make(3, 1, 5, (16, 16, 24, 32), 16))


AE = ["0.hourglass_modules.0.0" + ".low2" * i + ".low3" for i in (2, 1, 0)] + ["0.hourglass_modules.0.2"]
add(
    "mmpose.HourglassAENet",
    "mmpose",
    2,
    poses,
    lambda: (rand(1, 3, 96, 96),),
    AE,
    "U poses",
    ladders=[AE[1:]],
    notes="hourglasses lie in each other, add a skip, and a layer works on the sum and goes up; a list of one output",
)
HOURGLASS = [*seq("m0.b3_{}", 1, 5), "in:l0"]
add(
    "face-alignment.FAN",
    "face-alignment",
    2,
    lambda: alone("face_alignment.models.fan", "FAN")(1),
    lambda: (rand(1, 3, 128, 128),),
    HOURGLASS,
    "U faces poses",
    ladders=[HOURGLASS[1:], [*HOURGLASS[:4], "top_m_0"], [*HOURGLASS[1:4], "top_m_0"]],
    notes="an hourglass called by its own levels, got by name; blocks work and go up, then skips are added; a list",
)


def craft():
    named("torchvision.models.vgg", "vgg16_bn")
    sys.modules["torchvision.models.vgg"].model_urls = dict(vgg16_bn="")
    return alone("craft_text_detector.models.craftnet", "CraftNet")()


add(
    "craft-text-detector.CraftNet",
    "craft-text-detector",
    2,
    craft,
    x_rgb,
    seq("upconv{}", 1, 5),
    "U texts",
    alts={3: ["conv_cls.7"]},
    notes="a skip at the bottleneck too; a head of five layers; channels last; the last map is returned too",
)


class Flows(nn.Module):
    """An encoder's maps by name, the package's decoder of them, and the finest flow first."""

    def __init__(self):
        super().__init__()
        self.encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
        widths = dict(level5=512, level4=256 + 34, level3=128 + 18, level2=64 + 10)
        loose("mmcv.runner", BaseModule=Based)
        loose("mmflow.models.builder", DECODERS=Registry())
        loose("mmflow.models.decoders.base_decoder", BaseDecoder=Based)
        make = alone("mmflow.models.decoders.flownet_decoder", "FlowNetSDecoder")
        self.decoder = make(widths, dict(level5=32, level4=16, level3=8))

    def forward(self, x):
        flows = self.decoder({f"level{i}": map for i, map in enumerate(self.encoder(x), 2)})
        return [flows[f"level{i}"] for i in range(2, 6)]


class Based(nn.Module):
    """Stands for what the package's networks are made from."""

    def __init__(self, init_cfg=None):
        super().__init__()


add(
    "mmflow.FlowNetSDecoder",
    "mmflow",
    2,
    Flows,
    x_rgb,
    seq("in:decoder.decoders.level{}.pred_out", 5, 1, -1),
    "U flow DS",
    notes="own flows of each level, the coarsest too, are laid beside the next; no layer works after a merge",
)


class Matting(nn.Module):
    """An encoder that returns a dict of maps, and a decoder that takes it."""

    def __init__(self):
        super().__init__()
        needed = dict.fromkeys(("constant_init", "xavier_init", "kaiming_init"))
        named("mmcv.cnn", "ConvModule")
        vars(sys.modules["mmcv.cnn"]).update(needed)
        loose("mmcv.runner")
        loose("mmedit.models.registry", COMPONENTS=Registry())
        loose("mmedit.models.common")
        loose("mmedit.utils.logger")
        named("mmengine.registry", "MODELS").register_module("Deconv", module=nn.ConvTranspose2d)
        where = "mmedit.models.backbones.encoder_decoders."
        self.encoder = alone(where + "encoders.resnet_enc", "ResShortcutEnc")("BasicBlock", [1, 1, 1, 1], 4)
        self.decoder = alone(where + "decoders.resnet_dec", "ResShortcutDec")("BasicBlockDec", [1, 2, 2, 1], 512)

    def forward(self, x):
        return self.decoder(self.encoder(x))


add(
    "mmedit.ResShortcutDec",
    "mmedit",
    2,
    Matting,
    lambda: (rand(1, 4, 64, 64),),
    [*seq("decoder.layer{}", 1, 5), "decoder.conv1"],
    "U matting",
    alts={4: ["in:decoder.conv2"]},
    notes="blocks go up and work; the parent adds skips; the last sum goes to the head",
)


class Rooms(nn.Module):
    """The package's neck, and a head that all of its maps share, the finest first."""

    def __init__(self):
        super().__init__()
        loose("mmdet3d.registry", MODELS=Registry())
        self.neck = alone("mmdet3d.models.necks.imvoxel_neck", "IndoorImVoxelNeck")(8, 16, [1, 1, 1])
        self.head = nn.Conv3d(16, 5, 3, padding=1)

    def forward(self, x):
        return [self.head(made) for made in self.neck(x)]


add(
    "mmdet3d.IndoorImVoxelNeck",
    "mmdet3d",
    3,
    Rooms,
    lambda: (rand(1, 8, 16, 16, 16),),
    seq("neck.out_block_{}", 2, -1, -1),
    "FPN rooms DS",
    notes="own logits of all levels by one head, after a layer beside the way up; modules are got by name",
)


def debris():
    loose("segmentation_models_pytorch")
    return alone("marinedebrisdetector.model.unet", "UNet")(4, 1, False)


add(
    "marinedebrisdetector.UNet",
    "marinedebrisdetector",
    2,
    debris,
    lambda: (rand(1, 4, 64, 64),),
    seq("up{}", 1, 5),
    "U satellites",
)
