"""More of the tenth list, also blind: flows, rain, depth, poses, scenes, scrolls, tomograms."""

import sys

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x3, x_rgb

add = adder("unseen-10")


def lively(net):
    """Weights as small as the package's leave maps that hardly vary."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
    return net


class Flow(nn.Module):
    """Two frames in, the flow out."""

    def __init__(self, file, name):
        super().__init__()
        loose("lightning")
        loose("lightning.pytorch", LightningModule=named("pytorch_lightning", "LightningModule"))
        sys.modules["lightning"].pytorch = sys.modules["lightning.pytorch"]
        loose("ptlflow.utils.flow_metrics", FlowMetrics=nn.Identity)
        loose("ptlflow.utils.registry", register_model=lambda made: made, trainable=lambda made: made)
        self.net = alone(f"ptlflow.models.{file}", name)()

    def forward(self, frames):
        return self.net(dict(images=frames))["flows"][:, 0]


FLOWS = seq("in:net.predict_flow{}", 6, 1, -1)
add(
    "ptlflow.FlowNetS",
    "ptlflow",
    2,
    lambda: Flow("flownet.flownets", "FlowNetS"),
    lambda: (rand(1, 2, 3, 128, 128),),
    FLOWS,
    "U flow DS",
    notes="flows of each level, the bottom's too, are laid beside the next with the skip; all goes up at once",
)
add(
    "ptlflow.PWCNet",
    "ptlflow",
    2,
    lambda: Flow("pwcnet.pwcnet", "PWCNet"),
    lambda: (rand(1, 2, 3, 128, 128),),
    FLOWS,
    "U flow DS",
    notes="costs of moving the second image by the flow of the coarser level; each layer's output is laid beside",
)
add(
    "ptlflow.HD3",
    "ptlflow",
    2,
    lambda: lively(Flow("hd3.hd3", "HD3")),
    lambda: (rand(1, 2, 3, 128, 128),),
    seq("net.Decoder_{}.mapping", 5),
    "U flow DS nested",
    notes="a nested pyramid makes what is compared; chances of each flow on each level, whose mean moves the next",
)


class Rain(nn.Module):
    """The generator, with the noise as an input and one frame to come."""

    def __init__(self):
        super().__init__()
        self.context = alone("skillful_nowcasting.common", "ContextConditioningStack")(1, 128)
        self.sampler = alone("skillful_nowcasting.generators", "Sampler")(1, 64, 128)

    def forward(self, seen, noise):
        return self.sampler(self.context(seen), noise)[:, 0]


add(
    "skillful-nowcasting.Sampler",
    "skillful-nowcasting",
    2,
    Rain,
    lambda: (rand(1, 4, 1, 64, 64), rand(1, 64, 2, 2)),
    [*seq("sampler.g{}", 1, 5), "sampler.up_g4"],
    "U rain",
    notes="a recurrent cell merges what was seen on each level, the bottom too; then blocks; the head shuffles pixels",
)


def yolo(task, name):
    return lively(named("ultralytics.nn.tasks", name)(f"yolo26n-{task}.yaml", verbose=False))


add(
    "ultralytics.yolo26-sem",
    "ultralytics",
    2,
    lambda: yolo("sem", "SemanticSegmentationModel"),
    x_rgb,
    ["model.13", "model.17.classifier.0"],
    alts={1: ["model.16"]},
    notes="modules lie in one list, by a table; an attention at the bottom; a head beside in training",
)
add(
    "ultralytics.yolo26-depth",
    "ultralytics",
    2,
    lambda: yolo("depth", "DepthModel"),
    x_rgb,
    ["model.23.proj.2", "model.23.refine.1", "model.23.head.0"],
    "FPN depth",
    alts={2: ["model.23.refine.0"]},
    notes="a pyramid goes up and down again, then up by sums; the head goes up once more",
)
HOUR = [*seq("hg.1.hg.{}.2", 4), "fc.1"]
add(
    "stacked-hourglass.hg2",
    "pytorch-stacked-hourglass",
    2,
    lambda: alone("stacked_hourglass.model", "hg2")(num_classes=5),
    lambda: (rand(1, 3, 128, 128),),
    HOUR,
    "U cascade poses DS",
    ladders=[HOUR[1:], [*HOUR[:4], "res.1"], [*HOUR[1:4], "res.1"]],
    notes="an hourglass called by its own levels; blocks work and go up; skips are added; layers more after the last",
)


class Between(nn.Module):
    """Only the frame between the two is returned."""

    def __init__(self):
        super().__init__()
        self.net = alone("yeastvision.ims.rife_model.IFNet", "IFNet")()

    def forward(self, frames):
        return self.net(frames)[2][2]


RIFE = seq("net.unet.up{}", 4)
add(
    "yeastvision.IFNet",
    "yeastvision",
    2,
    Between,
    lambda: (rand(1, 6, 64, 64),),
    RIFE,
    "U cells films",
    ladders=[["net.unet.down3", *RIFE]],
    notes="a U mends what flows made of two frames, whose own maps are laid beside on each level, at the bottom too",
)
add(
    "spikezoo.DispNetS",
    "spikezoo",
    2,
    lambda: alone("spikezoo.archs.stir.package_core.package_core.disp_netS", "DispNetS")(),
    lambda: (rand(1, 3, 256, 256),),
    seq("iconv{}", 7, 0, -1),
    "U depth DS",
    notes="depths of the finer levels are laid beside the next; no skip on the last",
)
add(
    "spikezoo.Blind_UNet",
    "spikezoo",
    2,
    lambda: alone("spikezoo.archs.ssml.model", "Blind_UNet")(3, 3),
    x_rgb,
    ["dec2", "dec1"],
    "U restoration",
    notes="each layer is shifted down and cropped; the image is the last skip; the last block makes the output",
)


class Masks(nn.Module):
    """The package's image encoder, pyramid and branch of masks, without what finds objects."""

    def __init__(self):
        super().__init__()
        self.backbone = alone("rpdcnn.feature_extractor.backbone", "Backbone")("mobilenetv3_large_100", False)
        self.neck = alone("rpdcnn.feature_extractor.bifpn", "BiFPN")(self.backbone.out_channels, 16, 2)
        levels = dict.fromkeys(("p3", "p4", "p5"), 16)
        self.mask_branch = alone("rpdcnn.heads.mask_branch", "MaskBranch")(levels, channels=32, num_convs=2)

    def forward(self, x):
        levels = self.neck(self.backbone(x))
        return self.mask_branch(dict(zip(("p3", "p4", "p5"), levels, strict=True)))[0]


add(
    "rpdcnn.MaskBranch",
    "rpdcnn",
    2,
    Masks,
    lambda: (rand(1, 3, 128, 128),),
    ["mask_branch.refine.2", "mask_branch.refine.1", "mask_branch.tower.1"],
    "FPN",
    alts={2: ["in:mask_branch.tower.0"]},
    notes="a pyramid goes up and down again; a layer on each level, all brought to one size, summed; then layers",
)


class Mirror(nn.Module):
    """Tokens of an image, and the package's decoder."""

    def __init__(self):
        super().__init__()
        loose("transformers")
        make = named("timm", "create_model")
        self.encoder = make("vit_tiny_patch16_224", img_size=64, pretrained=False)
        config = dict(feature_dim=192, reassemble_out_channels=[16, 24, 32, 48], fusion_hidden_size=32)
        self.decoder = alone("models", "DPT_Decoder")(config | dict(output_image_size=(64, 64)))

    def forward(self, x):
        taken = dict(indices=(2, 5, 8, 11), output_fmt="NLC", intermediates_only=True)
        return self.decoder(self.encoder.forward_intermediates(x, **taken))


add(
    "unreflectanything.DPT_Decoder",
    "unreflectanything",
    2,
    Mirror,
    x_rgb,
    ["decoder.fusion_blocks.3", *seq("decoder.drop2d#{}", 3), "decoder.rgb_head.2"],
    "FPN vit restoration",
    notes="a block works on each level, and sums are only resized; an identity takes each; the head goes up within",
)


class Scrolls(nn.Module):
    """The package's encoder and one of its decoders."""

    def __init__(self):
        super().__init__()
        kind = dict(norm_op=nn.InstanceNorm3d, norm_op_kwargs=dict(affine=True), nonlin=nn.LeakyReLU)
        kind |= dict(nonlin_kwargs=dict(inplace=True), dropout_op=None, dropout_op_kwargs=None, conv_bias=False)
        sizes = dict(n_stages=4, features_per_stage=[8, 12, 16, 24], n_blocks_per_stage=1, strides=[1, 2, 2, 2])
        sizes |= dict(conv_op=nn.Conv3d, kernel_sizes=[[3, 3, 3]] * 4, return_skips=True, squeeze_excitation=True)
        self.encoder = alone("vesuvius.models.build.encoder", "Encoder")(1, "BasicBlockD", **sizes, **kind)
        self.decoder = alone("vesuvius.models.build.decoder", "Decoder")(self.encoder, "BasicBlockD", 2, 1, True)

    def forward(self, x):
        return self.decoder(self.encoder(x))


add(
    "vesuvius.Decoder",
    "vesuvius",
    3,
    Scrolls,
    x3,
    seq("decoder.stages.{}", 3),
    "U DS scrolls",
    notes="residual blocks, gated on channels in the encoder; the decoder knows its encoder, but does not hold it",
)


def particles():
    make = alone("topcup.modules.unet", "FlexibleUNet")
    return make(1, 2, "resnet10", decoder_channels=(32, 24, 16, 12, 8), spatial_dims=3)


add(
    "topcup.FlexibleUNet",
    "topcup",
    3,
    particles,
    lambda: (rand(1, 1, 64, 64, 64),),
    seq("decoder.blocks.{}", 4),
    "U DS tomograms",
    notes="logits of all levels but the finest, whose block works for nothing",
)


class Asked(nn.Module):
    """The network with smaller sizes; the text is a vector."""

    def __init__(self):
        super().__init__()
        make = alone("voxtell.model.voxtell_model", "VoxTellModel")
        widths = [8, 8, 12, 12, 16, 16]
        make.DECODER_CONFIGS = {i: dict(channels=width, shape=(64 >> i,) * 3) for i, width in enumerate(widths)}
        kind = dict(norm_op=nn.InstanceNorm3d, norm_op_kwargs=dict(affine=True), nonlin=nn.LeakyReLU, conv_bias=True)
        sizes = dict(n_stages=6, features_per_stage=widths, conv_op=nn.Conv3d, kernel_sizes=[[3, 3, 3]] * 6)
        sizes |= dict(strides=[[1] * 3, *[[2] * 3] * 5], n_blocks_per_stage=1, n_conv_per_stage_decoder=1)
        more = dict(query_dim=48, text_embedding_dim=32, project_to_decoder_hidden_dim=24, deep_supervision=True)
        self.net = make(1, **sizes, **kind, **more)

    def forward(self, x, text):
        return self.net(x, text)


add(
    "voxtell.VoxTellModel",
    "voxtell",
    3,
    Asked,
    lambda: (rand(1, 1, 64, 64, 64), rand(1, 1, 32)),
    [*seq("in:net.decoder.seg_layers.{}", 4), "net.decoder.stages.4"],
    "U DS cond multi-input",
    notes="a product with the text is laid beside each level but the last, where it is the logits",
)
