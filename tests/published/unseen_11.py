"""An eleventh list, of 30 November 2026, written blind: medical and microscopy networks of packages not tried yet."""

import sys

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-11")


def stripping():
    loose("huggingface_hub")
    for module in ("nibabel", "nibabel.nifti1", "nibabel.nifti2", "nibabel.processing"):
        loose(module)
    return alone("cocolit.preprocessing.skull_stripping", "StripModel")(4, 4)


STRIPPED = ["decoder.1.1", "decoder.2.1", "remaining.1"]
add(
    "cocolit.StripModel",
    "cocolit",
    3,
    stripping,
    x3,
    STRIPPED,
    "U brain",
    ladders=[["decoder.0.1", *STRIPPED]],
    notes="the bottleneck lies in the list of the decoder's blocks; a map of distances",
)


class Mask(nn.Module):
    """The mask alone, without the image that is weighed with it."""

    def __init__(self):
        super().__init__()
        self.net = alone("deepprojection.ProjNet", "ProjNet")(4)

    def forward(self, x):
        return self.net(x)[1]


add(
    "deepprojection.ProjNet",
    "deepprojection",
    3,
    Mask,
    lambda: (rand(1, 1, 4, 64, 64),),
    seq("net.decode{}", 2, 9, 2),
    "U tissue",
    notes="two axes shrink; skips are what the first of two layers made; a sigmoid",
)
MELANOMA = seq("decoder{}", 4, 0, -1)
add(
    "melanoma-segmentation.R2UNet",
    "melanoma-segmentation",
    2,
    lambda: alone("melanoma_segmentation.models.residual_recurrent_unet", "R2UNet")(),
    x_rgb,
    MELANOMA,
    "U skin",
    notes="layers are called again and again, with a residual connection around them",
)
add(
    "melanoma-segmentation.TransUNet",
    "melanoma-segmentation",
    2,
    lambda: alone("melanoma_segmentation.models.trans_unet", "TransUNet")(3, 3, 16, 2, 32, 1),
    x_rgb,
    MELANOMA,
    "U vit skin",
    notes="tokens at the bottom; a level finer than the image, without a skip; logits are resized",
)
add(
    "melanoma-segmentation.AttUNet",
    "melanoma-segmentation",
    2,
    lambda: alone("melanoma_segmentation.models.attention_unet", "AttUNet")(),
    x_rgb,
    MELANOMA,
    "U skin",
    notes="gates on skips",
)


class Chosen(dict):
    """What is not said is as the package has it."""

    def __getitem__(self, asked):
        return asked[1]


def smoothing(name, dim, size):
    loose("mermaid.data_wrapper", USE_CUDA=False, MyTensor=torch.FloatTensor, AdaptVal=lambda x: x)
    loose("mermaid.finite_differences")
    loose("mermaid.module_parameters")
    loose("mermaid.utils")
    return alone("mermaid.deep_networks", name)(dim, 2, 3, [1, 2] + [size] * dim, Chosen())


def registered(dim, size):
    return lambda: (rand(1, 2, *[size] * dim),)


add(
    "mermaid.Unet",
    "mermaid",
    2,
    lambda: smoothing("Unet", 2, 64),
    registered(2, 64),
    ["up_path_4_2", "up_path_2_2", "up_path_1_2"],
    "U registration",
    notes="the last block, of the class of the others, makes the logits",
)
add(
    "mermaid.Simple_Unet",
    "mermaid",
    3,
    lambda: smoothing("Simple_Unet", 3, 32),
    registered(3, 32),
    ["up_path_4_2", "up_path_2_2"],
    "U registration",
    notes="the last block, of the class of the others, makes the logits, at half the size; they are resized",
)


def cells():
    loose("positional_encodings.torch_encodings")
    make = alone("cyto_dl.nn.vits.seg", "Seg_ViT")
    more = dict(upsample_factor=[2, 2], freeze_encoder=False, num_layer=4, num_head=2, n_intermediate_weights=4)
    return make(2, [8, 8], [8, 8], 32, 3, 64, 3, **more)


CELLS = seq("decoder.upsampling.layer_{}.upsample.0", 3)
add(
    "cyto-dl.Seg_ViT",
    "cyto-dl",
    2,
    cells,
    x2,
    [*CELLS, "decoder.upsampling.layer_3.upsample.1"],
    "U vit cells",
    ladders=[[*CELLS, "decoder.upsampling.layer_3.upsample.0.preconv", "decoder.upsampling.layer_3.upsample.1"]],
    notes="skips are pixels shuffled out of tokens of one size; blocks work and go up, the last goes up first",
)


def astrocytes():
    loose("onnxruntime")
    return alone("gfap_segmenter.model_manager", "UNet")(1, 2, num_fmaps=8)


add("gfap-segmenter.UNet", "gfap-segmenter", 2, astrocytes, x2, seq("up{}", 1, 5), "U astrocytes")


class Volumes(nn.Module):
    """An encoder of four levels, and the package's pyramid."""

    def __init__(self):
        super().__init__()
        shape = type("Shape", (), {"__init__": lambda self, channels, stride: vars(self).update(locals())})
        loose("fvcore.nn.weight_init", c2_xavier_fill=lambda layer: None)
        loose("fvcore.nn", weight_init=sys.modules["fvcore.nn.weight_init"])
        loose("fvcore", nn=sys.modules["fvcore.nn"])
        loose("detectron2.config", configurable=lambda made: made)
        loose("detectron2.layers", ShapeSpec=shape, get_norm=lambda _, width: nn.GroupNorm(4, width))
        loose("detectron2.modeling", SEM_SEG_HEADS_REGISTRY=Registry())
        make = alone("focus3d.segmentation.FOCUS3D.mask2former.modeling.pixel_decoder.fpn3d", "BasePixelDecoder3D")
        widths = [8, 16, 24, 32]
        shapes = {f"res{i}": shape(width, 2**i) for i, width in enumerate(widths)}
        self.head = make(shapes, conv_dim=16, mask_dim=8, norm="GN", num_classes=2)
        steps = zip([1, *widths[:-1]], widths, strict=True)
        self.encoder = nn.ModuleList(nn.Sequential(nn.Conv3d(a, b, 3, 2, 1), nn.ReLU()) for a, b in steps)

    def forward(self, x):
        maps = {}
        for i, layer in enumerate(self.encoder):
            maps[f"res{i}"] = x = layer(x)
        return self.head.forward_features(maps)[0]


class Registry:
    """Takes what is registered, and gives it back."""

    def register(self, *_, **__):
        return lambda made: made

    def register_module(self, made):
        return made


add(
    "focus-3d.BasePixelDecoder3D",
    "focus-3d",
    3,
    Volumes,
    x3,
    seq("head.layer_{}", 4, 0, -1),
    "FPN cells",
    notes="levels are summed and smoothed; layers are got from plain lists; norm and activation lie in the layers",
)


def electrons():
    return alone("super_resolution.models.unet", "UNet")(3, 1, 4, start_filts=8)


add(
    "chaldene.UNet",
    "chaldene-super-resolution",
    2,
    electrons,
    x2,
    seq("up_convs.{}", 3),
    "U electrons",
    notes="blocks go up and add skips",
)
add(
    "chaldene.SRUNet",
    "chaldene-super-resolution",
    3,
    lambda: alone("super_resolution.3D-SR-Unet.model", "SRUNet")(),
    lambda: (rand(1, 1, 4, 16, 16),),
    ["in:fracconv4", "in:final_conv"],
    "U electrons",
    notes="one axis does not shrink, but is enlarged on the way up, and skips with it; all layers in forward()",
)
MAPS = seq("m_up{}", 3, 0, -1)
add(
    "cryoligate.SCUNet",
    "cryoligate",
    3,
    lambda: alone("cryoligate.model", "SCUNet")(1, [1] * 7, 16, 0.0, 32, 8),
    x3,
    ["m_body", *MAPS],
    "U vit proteins",
    ladders=[MAPS, [*MAPS[:2], "in:m_tail"], ["m_body", *MAPS[:2], "in:m_tail"]],
    notes="layers go up and blocks work; the parent adds skips, at the bottom too, and the last sum goes to the head",
)


def eyes():
    for module in ("sklearn.pipeline", "sklearn.preprocessing", "sklearn.linear_model", "sklearn.neural_network"):
        loose(module)
    for module in ("sklearn.metrics", "toml", "transformers", "meyelens.fileio"):
        loose(module)
    return alone("meyelens.meye", "Meye")._EfficientFormerV2TwoHeadFPNWrapper("efficientformerv2_s0", 16)


add(
    "meyelens.EfficientFormerV2TwoHeadFPN",
    "meyelens",
    2,
    eyes,
    lambda: (rand(1, 3, 224, 224),),
    seq("smooth.{}", 3, -1, -1),
    "FPN eyes multi",
    notes="levels are summed and smoothed; two logits of one map are resized",
)


class Poses(nn.Module):
    """An encoder's coarsest map, and the package's head."""

    def __init__(self):
        super().__init__()
        models = "deeplabcut.pose_estimation_pytorch.models"
        for module in ("criterions", "predictors", "target_generators", "weight_init"):
            loose(f"{models}.{module}")
        bases = dict(BaseHead=nn.Module, WeightConversionMixin=type("Mixin", (), {}))
        loose(f"{models}.heads.base", HEADS=Registry(), **bases)
        self.encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(4,))
        self.head = alone(f"{models}.heads.simple_head", "DeconvModule")([512, 32, 5], [3, 3], [2, 2])

    def forward(self, x):
        return self.head(self.encoder(x)[0])


add(
    "deeplabcut.DeconvModule",
    "deeplabcut",
    2,
    Poses,
    lambda: (rand(1, 3, 128, 128),),
    ["head.deconv_layers.1", "head.deconv_layers.2"],
    "U noskip poses",
    notes="layers go up, with an activation between them; the last makes the logits",
)
