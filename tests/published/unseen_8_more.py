"""More of the eighth list, also blind: noise that becomes pictures, pictures that are mended, poses, vegetation."""

import sys
import types

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x_rgb

add = adder("unseen-8")


def opensr():
    make = alone("opensr_model.denoiser.unet", "UNetModel")
    net = make(4, 32, 4, 1, (2,), channel_mult=(1, 2, 2), num_heads=2)
    net.out[2].reset_parameters()  # it begins at nought
    return net


add(
    "opensr-model.UNetModel",
    "opensr-model",
    2,
    opensr,
    lambda: (rand(1, 4, 32, 32), torch.tensor([3])),
    ["output_blocks.1.0", "output_blocks.3.1", "output_blocks.5"],
    "U time satellites",
    notes="blocks end by going up, with a layer after it; skips at the bottleneck too; pre-activation",
)


class Coded(nn.Module):
    """Without chance in the middle."""

    def __init__(self):
        super().__init__()
        make = alone("opensr_model.autoencoder.autoencoder", "AutoencoderKL")
        config = dict(ch=32, out_ch=4, ch_mult=(1, 2, 2), num_res_blocks=1, attn_resolutions=(), in_channels=4)
        self.net = make(config | dict(resolution=64, z_channels=4, double_z=True), 4)

    def forward(self, x):
        return self.net(x, sample_posterior=False)[0]


add(
    "opensr-model.AutoencoderKL",
    "opensr-model",
    2,
    Coded,
    lambda: (rand(1, 4, 64, 64),),
    seq("net.decoder.up.{}.block.1", 2, -1, -1),
    "U noskip satellites",
    notes="no skips; blocks of one kind work and go up, on the coarsest level too; pre-activation",
)
ARCHITECTURES = "spandrel.architectures."


def nafnet():
    make = alone(ARCHITECTURES + "NAFNet.__arch.NAFNet_arch", "NAFNet")
    return make(width=8, enc_blk_nums=[1, 1, 1], dec_blk_nums=[1, 1, 1])


add(
    "spandrel.NAFNet",
    "spandrel",
    2,
    nafnet,
    lambda: (rand(1, 3, 60, 44),),
    seq("decoders.{}", 3),
    "U restoration",
    notes="goes up by pixel shuffle; the parent adds skips; padded where sizes are odd; the image is added",
)


def lama():
    return alone(ARCHITECTURES + "LaMa.__arch.LaMa", "FFCResNetGenerator")(4, 3, 8, 3, 2)


add(
    "spandrel.LaMa",
    "spandrel",
    2,
    lama,
    lambda: (rand(1, 3, 64, 64), rand(1, 1, 64, 64)),
    seq("model.10#{}", 3),
    "U noskip restoration multi-input",
    notes="spectra in the blocks at the bottom; layers of one kind go up, a norm, one activation for all; a sigmoid",
)
add(
    "spandrel.UpCunet2x",
    "spandrel",
    2,
    lambda: alone(ARCHITECTURES + "RealCUGAN.__arch.upcunet_v3", "UpCunet2x")(),
    lambda: (rand(1, 3, 32, 32),),
    ["unet2.conv4", "in:unet2.conv_bottom"],
    "U cascade valid restoration",
    notes="a U that enlarges, and one that mends what it made, which is added; the parent adds skips",
)
add(
    "dfusion.unet2-UNet",
    "dfusion",
    2,
    lambda: alone("dfusion.models.kitsunetic.unet2", "UNet")(10, 32, [1, 2, 2], [1], 1, 0.0),
    lambda: (rand(1, 3, 32, 32), torch.tensor([3])),
    seq("upblocks.{}", 1, 8, 3),
    "U time",
    notes="blocks and layers that go up lie in one list; skips at the bottleneck too; pre-activation",
)


def noisy():
    make = alone("dfusion.models.kitsunetic.unet", "UNet")
    more = dict(channel_mult=[1, 2, 2], num_heads=2, num_head_channels=16, resblock_updown=True)
    net = make(2, 3, 32, 3, 1, [2], **more)
    net.out[2].reset_parameters()  # it begins at nought
    return net


add(
    "dfusion.unet-UNet",
    "dfusion",
    2,
    noisy,
    lambda: (rand(1, 3, 32, 32), torch.tensor([3])),
    ["output_blocks.1.0", "output_blocks.3.1", "output_blocks.5"],
    "U time",
    notes="residual blocks go up, at the ends of the blocks; skips at the bottleneck too; pre-activation",
)


class Poses(nn.Module):
    """An encoder's coarsest map, and the package's head."""

    def __init__(self):
        super().__init__()
        loose("jaxtyping", Float=dict)
        for module in ("filters", "geometry.subpix", "geometry.transform.pyramid"):
            loose(f"kornia.{module}")
        loose("lightning_pose.data.heatmaps")
        loose("lightning_pose.models.backbones", BACKBONE_STRIDES={})
        self.encoder = named("timm", "create_model")("resnet18", features_only=True, out_indices=(4,))
        make = alone("lightning_pose.models.heads.heatmap", "HeatmapHead")
        self.head = make("resnet18", 512, 5, 32, final_softmax=False)

    def forward(self, x):
        return self.head(self.encoder(x)[0])


HEAT = seq("head.upsampling_layers.{}", 3)
add(
    "lightning-pose.HeatmapHead",
    "lightning-pose",
    2,
    Poses,
    lambda: (rand(1, 3, 128, 128),),
    HEAT[1:],
    "U noskip poses",
    ladders=[HEAT],
    notes="goes up by pixel shuffle, then by layers, the last of which makes the logits; no norms and no activations",
)


class Grown(nn.Module):
    """Gives the network what it asks for by name."""

    def __init__(self):
        super().__init__()
        loose("segmentation_models_pytorch")
        loose("earthnet_models_pytorch.utils")
        make = alone("earthnet_models_pytorch.model.spatiotemporal_unet", "SpatioTemporalUNet")
        chosen = dict(context_length=2, target_length=3, enc_depth=4, hid_channels=16, filter_size=3, bias=True)
        chosen |= dict(norm="batch", act="relu", readout_act="tanh", n_hr_inputs=4, n_static_inputs=1)
        chosen |= dict(n_weather_inputs=8, weather_conditioning="FiLM", weather_conditioning_loc="latent")
        self.net = make(types.SimpleNamespace(**chosen, mlp_after_attn=False, spatial_shuffle=False))

    def forward(self, seen, weather, ground):
        return self.net(dict(dynamic=[seen, weather], static=[ground]), pred_start=2)[0]


GROWN = [*seq("in:net.dec.upsamplers.{}", 4), "in:net.dec.readout"]
add(
    "earthnet.SpatioTemporalUNet",
    "earthnet-models-pytorch",
    2,
    Grown,
    lambda: (rand(1, 2, 4, 64, 64), rand(1, 5, 8), rand(1, 1, 64, 64)),
    GROWN,
    "U multi-input satellites",
    notes="the parent adds skips, at the bottom too, and residual layers; frames are channels, and a film is returned",
)


class Registry:
    """Takes what is registered, and gives it back."""

    def register(self, *_, **__):
        return lambda made: made


def scunet():
    alone("ccrestoration.arch.arch_util", "DropPath")
    sys.modules["ccrestoration.arch"].ARCH_REGISTRY = Registry()
    loose("ccrestoration.type", ArchType=types.SimpleNamespace(SCUNET=""))
    return alone("ccrestoration.arch.scunet_arch", "SCUNet")(config=[1] * 7, input_resolution=64)


SCUNET = seq("m_up{}", 3, 0, -1)
add(
    "ccrestoration.SCUNet",
    "ccrestoration",
    2,
    scunet,
    x_rgb,
    SCUNET,
    "U vit restoration",
    ladders=[["m_body", *SCUNET], [*SCUNET[:2], "in:m_tail"], ["m_body", *SCUNET[:2], "in:m_tail"]],
    notes="layers go up and blocks work; the parent adds skips, at the bottom too, and the last sum goes to the head",
)


def codes():
    loose("codeformer.basicsr.utils.registry", ARCH_REGISTRY=Registry())
    alone("codeformer.basicsr.utils.registry", "ARCH_REGISTRY")
    sys.modules["codeformer.basicsr.utils"].get_root_logger = lambda: None
    make = alone("codeformer.basicsr.archs.vqgan_arch", "VQAutoEncoder")
    return make(64, 32, (1, 2, 2), res_blocks=1, attn_resolutions=[16], codebook_size=16, emb_dim=32)


add(
    "codeformer.VQAutoEncoder",
    "codeformer-pip",
    2,
    codes,
    x_rgb,
    [f"generator.blocks.{i}" for i in (5, 7, 9)],
    "U noskip faces restoration",
    notes="a book of codes at the bottom; blocks and layers that go up lie in one list; the head begins with a norm",
)
add(
    "codeformer.ParseNet",
    "codeformer-pip",
    2,
    lambda: alone("codeformer.facelib.parsing.parsenet", "ParseNet")(base_ch=32, res_depth=2, ch_range=[16, 64]),
    lambda: (rand(1, 3, 128, 128),),
    seq("decoder.{}", 2),
    "U noskip faces multi",
    notes="residual blocks go up on both of their ways; two outputs of one map",
)


def physics():
    return named("phiml.backend.torch.nets", "UNet")(2, 1, 2, (8, 16, 24, 32), True, nn.ReLU, True, False, 3, 3)


add(
    "phiml.UNet",
    "phiml",
    2,
    physics,
    lambda: (rand(1, 1, 64, 64),),
    seq("up{}", 1, 4),
    "U physics",
    notes="modules are got by name; edges are joined",
)


class Latents(nn.Module):
    """Leaves what the package's decoder is given as it was."""

    def __init__(self):
        super().__init__()
        self.net = alone("stable_diffusion_pytorch.decoder", "Decoder")()

    def forward(self, x):
        return self.net(x.clone())


add(
    "stable-diffusion-pytorch.Decoder",
    "stable-diffusion-pytorch",
    2,
    Latents,
    lambda: (rand(1, 4, 4, 4),),
    [f"net.{i}" for i in (7, 12, 17, 22)],
    "U noskip",
    notes="all lies in one Sequential, which begins at the bottom; pre-activation",
)


def played(name, **more):
    loose("kornia")
    loose("psutil")
    return named(*name)(1, **more).build()


add(
    "deeplay.UNet2d",
    "deeplay",
    2,
    lambda: played(("deeplay.components.cnn.encdec", "UNet2d"), channels=[8, 16, 24], out_channels=3),
    lambda: (rand(1, 1, 64, 64),),
    ["bottleneck.blocks.0.activation", *seq("decoder.blocks.{}.activation", 2), "decoder.blocks.2"],
    ladders=[[*seq("decoder.blocks.{}.activation", 2), "decoder.blocks.2"]],
    notes="blocks work and go up, the bottleneck too, and the parent lays skips beside; the last makes the logits",
)
add(
    "deeplay.AttentionUNet",
    "deeplay",
    2,
    lambda: played(("deeplay.components.diffusion.attention_unet", "AttentionUNet"), channels=[8, 16, 32]),
    lambda: (rand(1, 1, 32, 32), rand(1, 16)),
    seq("decoder.blocks.{}.1", 2),
    "U time",
    notes="each level is a list of a layer that goes up and a block; attention in the blocks",
)


def pressed():
    loose("psutil")
    loose("pytorch_msssim")
    net = named("compressai.models.google", "FactorizedPrior")(8, 12)
    net.g_a[6].weight.data.mul_(100)  # what is rounded would be nought
    return net


PRESSED = seq("g_s.{}", 1, 7, 2)
add(
    "compressai.FactorizedPrior",
    "compressai",
    2,
    pressed,
    x_rgb,
    [*PRESSED, "g_s.6"],
    "U noskip restoration",
    notes="no skips; layers go up, each with a norm, and the last of them makes the picture",
)
