"""The thirteenth list, its second part: packages whose names begin with n to z."""

import importlib.util
import logging
import sys

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-13")

AFFINITIES = dict(num_fmaps=2, num_fmaps_out=2, fmap_inc_factor=2)


def affinities(module, name, *args, **kw):
    return lambda: alone(f"napari_bootstrapper.models.{module}", name)(*args, **AFFINITIES, **kw)


BOOTSTRAPPED = seq("unet.r_conv.0.{}", 2, -1, -1)
add(
    "napari-bootstrapper.Model",
    "napari-bootstrapper",
    2,
    affinities("model_2d", "Model", 3, stack_infer=False),
    lambda: (rand(1, 3, 196, 196),),
    BOOTSTRAPPED,
    "U valid multi cells",
    notes="descriptors of shape and affinities, a sigmoid each; one level is called within the next finer one",
)
add(
    "napari-bootstrapper.AffsUNet",
    "napari-bootstrapper",
    3,
    affinities("model_3d", "AffsUNet", 12, in_aff_neighborhood=[[0, 1]] * 6),
    lambda: (rand(1, 6, 24, 132, 132), rand(1, 6, 24, 132, 132)),
    BOOTSTRAPPED,
    "U valid multi-input cells",
    notes="levels differ in two axes; a sigmoid",
)
add(
    "napari-mouse-tumour-annotation.FlexibleUNet",
    "napari-mouse-tumour-annotation",
    3,
    lambda: alone("napari_mouse_tumour_annotation.architectures", "FlexibleUNet")((2, 4, 8, 12), deep_supervision=True),
    x3,
    seq("upcat_{}", 3, 0, -1),
    "U DS tumours",
    notes="coarser logits in train mode alone",
)
add(
    "napari-training-assistant.UNet2D",
    "napari-training-assistant",
    2,
    lambda: alone("napari_training_assistant.unet_backend.models", "UNet2D")(base=4),
    x2,
    ["dec3", "dec2", "dec1"],
    notes="going up, laying beside and blocks are written into forward()",
)
add(
    "narsil.basicUnet",
    "narsil",
    2,
    lambda: alone("narsil.segmentation.network", "basicUnet")(),
    x2,
    seq("up{}", 1, 5),
    "U bacteria",
)


def forked():
    module = "neodroidvision.multitask.fission.skip_hourglass.skip_hourglass_fission"
    loose("draugr.torch_utilities")
    return alone(module, "SkipHourglassFission")(
        input_channels=3, output_heads=(2, 1), encoding_depth=4, start_channels=4
    )


add(
    "neodroidvision.SkipHourglassFission",
    "neodroidvision",
    2,
    forked,
    x_rgb,
    seq("fork0.{}", 3),
    "U multi",
    notes="a decoder for each output; skips are added in the blocks",
)


def fully_convolutional():
    alone("neodroidvision.multitask.fission.skip_hourglass.modes", "MergeMode")
    places = importlib.util.find_spec("neodroidvision.segmentation").submodule_search_locations
    loose("neodroidvision.segmentation", dice_loss=None, __path__=list(places))
    made = named("neodroidvision.segmentation.fully_convolutional", "FullyConvolutional")
    return made(3, 2, final_act=nn.LogSoftmax(1))


UPS = ["transpose_block3", "transpose_block2"]
add(
    "neodroidvision.FullyConvolutional",
    "neodroidvision",
    2,
    fully_convolutional,
    x_rgb,
    [*UPS, "head.0"],
    "U",
    ladders=[UPS],
    notes="one layer goes up on each level, the last by eight; projected skips are added, and the sum goes up at once",
)


def light():
    start = dict(constant_init=lambda *_, **__: None, kaiming_init=lambda *_, **__: None)
    loose("otx.backend.native.models.utils.weight_init", **start)
    loose("otx.backend.native.models.utils.utils")
    loose("otx.utils.device", is_xpu_available=lambda: False)
    loose("otx.backend.native.tools.explain.explain_algo")
    backbones = alone("otx.backend.native.models.segmentation.backbones.litehrnet", "LiteHRNetBackbone")
    heads = alone("otx.backend.native.models.segmentation.heads.fcn_head", "FCNHead")
    both = alone("otx.backend.native.models.segmentation.segmentors.base_model", "BaseSegmentationModel")
    size = {k: v for k, v in backbones.LITEHRNET_CFG["lite_hrnet_18"].items() if k != "pretrained_weights"}
    made = named("otx.backend.native.models.segmentation.backbones.litehrnet", "LiteHRNetModule")(**size)
    return both(made, heads("lite_hrnet_18", num_classes=2))


AGGREGATED = seq("decode_head.aggregator.projects.{}", 4)
add(
    "otx.LiteHRNet",
    "otx",
    2,
    light,
    lambda: (rand(1, 3, 128, 128),),
    [*AGGREGATED[:3], "decode_head.convs"],
    "FPN",
    ladders=[AGGREGATED],
    notes="four branches, then from the coarsest to the finest: resized, added, and two layers, on the coarsest too; "
    "one more layer before the logits",
)


def rocks(module, name, *args, **kw):
    def make():
        loose("petroscope.utils.logger", logger=logging.getLogger("rocks"))  # its own writes a file
        return alone(f"petroscope.segmentation.models.{module}.nn", name)(*args, **kw)

    return make


add(
    "petroscope.HRNetWithOCR",
    "petroscope",
    2,
    rocks("hrnet", "HRNetWithOCR", 3, width=18, ocr_mid_channels=16),
    x_rgb,
    [*(f"model.backbone.stage4.2@[{i}]" for i in (3, 2, 1)), "model.backbone.ocr_distri_head"],
    "FPN DS rocks",
    notes="four branches are laid side by side; regions gathered with coarse logits are laid beside each position",
)
add(
    "petroscope.ResUNetBase",
    "petroscope",
    2,
    rocks("resunet", "ResUNetBase", 3, 4, 4, dilated=True),
    x_rgb,
    seq("up{}", 1, 5),
    "U rocks",
    notes="blocks add two branches after their activations; those of the encoder have holes",
)
add(
    "petroscope.ResUNet",
    "petroscope",
    2,
    rocks("resunet", "ResUNet", 3, start_filters=8, backbone="resnet18", pretrained=False),
    x_rgb,
    seq("up{}", 1, 5),
    "U rocks",
    ladders=[["up1", "up2", "up4"]],
    notes="the last block goes up, is resized back to the size that it came from, and works with a second skip there",
)


def picker():
    loose("h5py")
    loose("lightning", LightningModule=nn.Module)
    return alone("pickerxl.pickerxl", "PNet")(filters_root=4)


add(
    "pickerxl.PNet",
    "pickerxl",
    1,
    picker,
    lambda: (rand(1, 3, 5700),),
    ["in:up_branch.1.0", "in:up_branch.2.0", "in:up_branch.3.0", "in:out"],
    "U earthquakes",
    notes="levels differ by four; activations are functions; the level is cropped to its skip; a softmax",
)
add(
    "pycoeus.UNet",
    "pycoeus",
    2,
    lambda: alone("pycoeus.utils.models", "UNet")(3, 2, 1 / 16),
    x_rgb,
    seq("up_convolution_{}", 1, 5),
    "U satellite",
)
add(
    "segsuite.UNet",
    "segsuite",
    2,
    lambda: alone("segsuite.model", "UNet")(1, 2, [4, 8, 12], norm="group", dropout=0.1),
    x2,
    seq("decoders.{}", 3),
    "U",
)
add(
    "spine-segment.PlainConvUNet3D",
    "spine-segment",
    3,
    lambda: alone("spine_segment.process_body_relabel", "PlainConvUNet3D")().as_module(),
    x3,
    seq("decoder.stages.{}", 4),
    "U vertebrae",
    notes="heads of coarser levels are there, but not used; forward() of each block is set on the object",
)


def spectrograms():
    config = alone("tokeye.models.big_tf_unet.config_big_tf_unet", "BigTFUNetConfig")(first_layer_size=4)
    return alone("tokeye.models.big_tf_unet.model_big_tf_unet", "BigTFUNetModel")(config)


add(
    "tokeye.BigTFUNetModel",
    "tokeye",
    2,
    spectrograms,
    x2,
    seq("decoder.{}", 4),
    "U plasma",
    notes="a tuple of one output; the bottom block is the encoder's last",
)
CRATERS = ["up_256", "up_128", "up_64", "up_32"]
add(
    "torchmoon.Crater_VNet",
    "torchmoon",
    2,
    lambda: alone("torchmoon.model.cratervnet", "Crater_VNet")(),
    x2,
    CRATERS,
    "U craters",
    ladders=[[*CRATERS[:3], "in:out_tr.conv3"]],
    notes="norms count batches in eval mode too; three layers make the logits of the last map",
)
add(
    "torchmoon.DeepMoon",
    "torchmoon",
    2,
    lambda: alone("torchmoon.model.deepmoon", "DeepMoon")(4, 3, dropout=0),
    x2,
    ["up_1", "up_2", "up_3"],
    "U craters",
    notes="pooling, upsampling and the sigmoid are made within forward(); its dropout works in eval mode too, if not 0",
)
add(
    "vbai.VbaiSegNet3D",
    "vbai",
    3,
    lambda: alone("vbai.models.segmentation3d", "VbaiSegNet3D")(base_channels=4),
    x3,
    ["bottleneck", "dec3", "dec2", "dec1", "dec0"],
    "U brain",
    ladders=[["dec3", "dec2", "dec1", "dec0"]],
    notes="layers with holes and a pooled branch at the bottom; gates on skips; coarser logits if asked for",
)


class Fed(nn.Module):
    """Hands the maps of an encoder, which the package's decoders take as a list, and an image."""

    def __init__(self, net, image):
        super().__init__()
        self.net, self.image = net, image

    def forward(self, *maps):
        return self.net(list(maps[:-1]), maps[-1]) if self.image else self.net(list(maps))["object"]


def united():
    loose("huggingface_hub")
    net = alone("vision_architectures.nets.upernet_2d", "UPerNet2D")
    return Fed(net(dict(dim=8, skip_conn_dims=[4, 6, 8, 12], num_objects=3)), False)


add(
    "vision-architectures.UPerNet2D",
    "vision-architectures",
    2,
    united,
    lambda: tuple(rand(1, c, n, n) for c, n in ((4, 32), (6, 16), (8, 8), (12, 4))),
    [*(f"net.fpn.blocks.{i}" for i in (3, 2, 1)), "net.fusion"],
    "FPN multi-input",
    ladders=[[*(f"net.fpn.blocks.{i}" for i in (3, 2, 1)), "net.object_head.0"]],
    notes="the maps of an encoder are inputs; blocks add and smooth, then one works on all; a head of two layers",
)


def transformed():
    loose("huggingface_hub")
    config = alone("vision_architectures.nets.unetr_3d_decoder", "UNetR3DConfig")
    dims, patches = (4, 8, 12, 16), [(size, size, size) for size in (2, 4, 8, 16)]
    stages = [
        dict(in_dim=dims[i], out_dim=dims[i + 1], in_patch_size=patches[i], out_patch_size=patches[i + 1])
        for i in range(3)
    ]
    decoder = dict(num_outputs=3, conv_kernel_size=(3, 3, 3), final_layer_kernel_size=(3, 3, 3))
    made = named("vision_architectures.nets.unetr_3d_decoder", "UNetR3DDecoder")
    return Fed(made(config(in_channels=1, decoder=decoder, stages=stages)), True)


DECODED = seq("net.blocks.{}", 3)
add(
    "vision-architectures.UNetR3DDecoder",
    "vision-architectures",
    3,
    transformed,
    lambda: (*(rand(1, c, n, n, n) for c, n in ((8, 8), (12, 4), (16, 2))), rand(1, 1, 32, 32, 32)),
    DECODED,
    "U multi-input",
    ladders=[["net.blocks.0.conv", *DECODED]],
    notes="the maps of an encoder and an image are inputs; a layer works on each skip, which is laid beside, and both "
    "go up at once; the image, with a layer, is laid beside before the logits",
)


def yiku(module, name, *args, **kw):
    loose("yiku.PATH", WTS_STORAGE_DIR=None)
    loose("yiku.utils.utils", fuse_conv_and_bn=None)
    alone("yiku.utils.utils_wts_init", "initBN_const")
    sys.path += importlib.util.find_spec("yiku.nets").submodule_search_locations[0].rsplit("nets", 1)[:1]
    for backbone in ("STDCNet", "HGNetv2"):
        alone(f"yiku.nets.BackBone.{backbone}", "torch")
    return alone(f"yiku.nets.model.{module}", name)(*args, **kw)


ARMS = seq("ppseg_head.arm_list.{}", 2, -1, -1)
add(
    "yiku-seg.PPLiteSeg",
    "yiku-seg",
    2,
    lambda: yiku("PPLiteSeg.PPliteSeg", "PPLiteSeg", 2, backbone_arch="stdc1"),
    lambda: (rand(1, 3, 128, 128),),
    ARMS,
    "U",
    ladders=[[*ARMS[:2], "seg_heads.0.conv"]],
    notes="the bottom is pooled and brought back, then merged as further up; weights for each position in each fusion; "
    "a head for each level, but only the finest is returned",
)
add(
    "yiku-seg.SegFormer",
    "yiku-seg",
    2,
    lambda: yiku("SegFormer.bubbliiiing_segformer", "SegFormer", 2),
    x_rgb,
    [*(f"decode_head.linear_c{i}" for i in (4, 3, 2)), "decode_head.linear_fuse"],
    "FPN vit",
    notes="all levels are projected, resized and merged by one layer",
)
add(
    "yiku-seg.UNet",
    "yiku-seg",
    2,
    lambda: yiku("UNet.hgnetv2_unet", "UNet", 2),
    x_rgb,
    ["up_concat4", "up_concat3", "up_concat2", "up_conv"],
    "U",
    notes="a last list goes up and works, without a skip; the logits are resized",
)
