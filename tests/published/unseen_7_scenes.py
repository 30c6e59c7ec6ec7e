"""More of the seventh list, also blind: ground, floods, satellites, trees, moving scenes, roads."""

import types

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-7")


class Scene(nn.Module):
    """An encoder that has the image itself as its finest map, the package's decoder of its maps, and a head."""

    def __init__(self, file, name, *more, widths=(64, 64, 128, 256, 512), **options):
        super().__init__()
        self.encoder = named("timm", "create_model")("resnet18", features_only=True)
        self.decoder = alone(f"segmentation_sust.{file}.decoder", name)((3, *widths), *more, **options)
        self.head = nn.LazyConv2d(3, 1)

    def forward(self, x):
        return self.head(self.decoder(x, *self.encoder(x)))


def scene(*made, **options):
    net = Scene(*made, **options)
    net(rand(2, 3, 256, 256))
    return net


add(
    "segmentation-sust.FPNDecoder",
    "segmentation-sust",
    2,
    lambda: scene("fpn", "FPNDecoder", pyramid_channels=32, segmentation_channels=32),
    x_rgb,
    [*seq("decoder.seg_blocks.{}.block.0.block", 3), "decoder"],
    "FPN",
    ladders=[["decoder.p5", "decoder.p4", "decoder.p3", "decoder"]],
    notes="blocks work on each level and bring it to one size, step by step",
)
add(
    "segmentation-sust.UnetPlusPlusDecoder",
    "segmentation-sust",
    2,
    lambda: scene("unetplusplus", "UnetPlusPlusDecoder", (64, 48, 32, 16, 8)),
    x_rgb,
    seq("decoder.blocks.x_0_{}", 5),
    "U nested",
    notes="a level without a skip after the last",
)
GAU = seq("decoder.gau{}", 3, 0, -1)
add(
    "segmentation-sust.PANDecoder",
    "segmentation-sust",
    2,
    lambda: scene("pan", "PANDecoder", 32),
    lambda: (rand(1, 3, 256, 256),),
    ["decoder.fpa", *GAU],
    "FPN",
    ladders=[GAU],
    notes="pools at the bottom, and brings it back; skips are gated by the coarser map's channels, and added",
)
add(
    "floodsens.MainNET",
    "floodsens",
    2,
    lambda: alone("floodsens.model", "MainNET")(4, 2, [8, 16, 32]),
    lambda: (rand(1, 4, 60, 44),),
    seq("ups.{}", 1, 6, 2),
    "U satellites floods",
    notes="layers that go up and blocks lie in one list; the input's channels are gated; resized where sizes are odd",
)


def dtacs():
    loose("segmentation_models_pytorch")
    return alone("dtacs.nn", "ConvolutionalAutoencoder_1")(6)


WITHOUT = seq("decoder.{}", 1, 5, 2)
add(
    "dtacs.ConvolutionalAutoencoder_1",
    "dtacs",
    2,
    dtacs,
    lambda: (rand(1, 6, 128, 128),),
    [*WITHOUT, "decoder.4"],
    "U noskip satellites restoration",
    ladders=[[*WITHOUT[1:], "decoder.4"], WITHOUT],
    notes="no skips; layers of one kind go up, the first of them valid and by a few pixels; the last makes the output",
)


class Scenes(nn.Module):
    """An encoder's maps as the package has them, and its decoder."""

    def __init__(self):
        super().__init__()
        self.encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
        loose("rslearn.train.model_context")
        self.kind = alone("rslearn.models.component", "FeatureMaps")
        widths = [(4, 64), (8, 128), (16, 256), (32, 512)]
        self.decoder = alone("rslearn.models.unet", "UNetDecoder")(widths, 5, num_channels={8: 32, 4: 24, 2: 16, 1: 8})

    def forward(self, x):
        return self.decoder(self.kind(self.encoder(x)), None).feature_maps


RS = [*seq("decoder.layers.{}.1", 4), "decoder.layers.3.4", "decoder.layers.3.7"]
add(
    "rslearn.UNetDecoder",
    "rslearn",
    2,
    Scenes,
    x_rgb,
    RS,
    "U satellites",
    notes="a layer works and goes up in one Sequential, on the coarsest level too; two levels without a skip",
)


def canopy():
    loose("rasterio")
    loose("matplotlib.pyplot")
    encoder = alone("geoai.canopy", "_SSLVisionTransformer")
    head = named("geoai.canopy", "_DPTHead")((48,) * 4, 16, 48, [8, 16, 24, 32])
    return nn.Sequential(encoder(img_size=64, embed_dim=48, depth=4, num_heads=4, out_indices=(0, 1, 2, 3)), head)


CANOPY = [*seq("1.fusion_blocks.{}", 3), "1.conv_depth.head.0"]
add(
    "geoai.canopy-DPT",
    "geoai-py",
    2,
    canopy,
    x_rgb,
    CANOPY,
    "U vit trees",
    alts={3: ["1.fusion_blocks.3", "1.project"]},
    ladders=[[*CANOPY, "1.conv_depth.head.3"]],
    notes="DPT; fusions go up inside and then project; a head of several layers goes up; activations after the logits",
)


class Fine(nn.Module):
    """An encoder's maps, the package's pyramid of them, and its decoder, with the channels that it has."""

    def __init__(self):
        super().__init__()
        self.encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(2, 3, 4))
        make = alone("dfine_seg.model.arch.hybrid_encoder", "HybridEncoder")
        self.pyramid = make([128, 256, 512], hidden_dim=32, nhead=4, dim_feedforward=64, depth_mult=0.34)
        self.decoder = alone("dfine_seg.model.arch.dfine_decoder", "SemSegDecoder")(5, [32] * 3, 64, neck_dim=32)

    def forward(self, x):
        return self.decoder(self.pyramid(self.encoder(x)))


MASKS = "decoder.mask_decoder."
add(
    "dfine-seg.SemSegDecoder",
    "dfine-seg",
    2,
    Fine,
    lambda: (rand(1, 3, 128, 128),),
    [MASKS + "bn.2", MASKS + "bn.1", MASKS + "act#0", MASKS + "act#1"],
    "FPN roads",
    alts={0: ["pyramid.pan_blocks.1"], 1: ["pyramid.pan_blocks.0"], 3: ["decoder.neck.0", "decoder.neck"]},
    notes="goes up and down; all levels are brought to one size and added; then up once more; one activation for both",
)


class Watched(nn.Module):
    """An encoder of a frame, what is remembered of two objects in it, and the package's decoder."""

    def __init__(self):
        super().__init__()
        loose("omegaconf")
        loose("cutie.model.utils")
        self.encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(1, 2, 3))
        self.objects = nn.Conv2d(256, 2 * 32, 1)
        config = types.SimpleNamespace(embed_dim=32, sensory_dim=16)
        config.pixel_encoder = types.SimpleNamespace(ms_dims=[256, 128, 64])
        config.mask_decoder = types.SimpleNamespace(up_dims=[32, 32, 24])
        self.decoder = alone("cutie.model.big_modules", "MaskDecoder")(config)

    def forward(self, x, sensory):
        f4, f8, f16 = self.encoder(x)
        readout = self.objects(f16).unflatten(1, (2, 32))
        return self.decoder([f16, f8, f4], readout, sensory)[1]


CUTIE = ["decoder.up_16_8", "decoder.up_8_4"]
add(
    "cutie.MaskDecoder",
    "rf-cutie",
    2,
    Watched,
    lambda: (rand(1, 3, 64, 64), rand(1, 2, 16, 4, 4)),
    CUTIE,
    "U video multi-input",
    notes="maps have an axis of objects, laid into the batch for each layer; the head begins with an activation",
)


def glasses():
    loose("glasses_detector.models.tiny_binary_classifier")
    return alone("glasses_detector.models.tiny_binary_segmenter", "TinyBinarySegmenter")()


add(
    "glasses-detector.TinyBinarySegmenter",
    "glasses-detector",
    2,
    glasses,
    lambda: (rand(1, 3, 72, 56),),
    seq("up{}", 1, 5),
    "U faces",
    notes="what comes up is padded where sizes are odd; a dict of logits",
)
