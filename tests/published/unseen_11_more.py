"""More of the eleventh list, also blind: weather, noise and codes that become pictures, pictures that are coloured."""

import sys

import torch
from torch import nn

from published.base import adder, alone, loose, rand, seq, x_rgb

add = adder("unseen-11")


def horizons():
    return alone("ainpp_pb_latam.models.unet.forecaster", "UNetMultiHorizon")(4, 1, 3, features=(8, 16, 24, 32))


add(
    "ainpp.UNetMultiHorizon",
    "ainpp-pb-latam",
    2,
    horizons,
    lambda: (rand(1, 4, 1, 64, 64),),
    seq("unet.up.{}", 3),
    "U weather",
    notes="frames are channels, and a film is returned",
)


def residual():
    return alone("ainpp_pb_latam.models.resnet50.forecaster", "ResNet50MultiHorizon")(4, 3, False)


add(
    "ainpp.ResNet50MultiHorizon",
    "ainpp-pb-latam",
    2,
    residual,
    lambda: (rand(1, 4, 64, 64),),
    [*seq("up{}", 1, 5), "up_final"],
    "U weather",
    notes="the last level has no skip; a film is returned",
)


def inception():
    return alone("ainpp_pb_latam.models.inceptionv4.forecaster", "InceptionV4MultiHorizon")(4, 3, False)


add(
    "ainpp.InceptionV4MultiHorizon",
    "ainpp-pb-latam",
    2,
    inception,
    lambda: (rand(1, 4, 96, 96),),
    [*seq("up{}", 1, 5), "up_final"],
    "U weather",
    alts={4: ["in:outc"]},
    notes="sizes do not fit, and what comes up is padded; the last level has no skip and is resized",
)


class Sampled(nn.Module):
    """The package's generator for one step, with the noise as an input."""

    def __init__(self):
        super().__init__()
        loose("huggingface_hub", PyTorchModelHubMixin=type("Mixin", (), {}))
        self.context = alone("dgmr.common", "ContextConditioningStack")(output_channels=32)
        self.sampler = alone("dgmr.generators", "Sampler")(1, 64, 32)

    def forward(self, x, noise):
        return self.sampler(self.context(x), noise)


add(
    "dgmr.Sampler",
    "dgmr",
    2,
    Sampled,
    lambda: (rand(1, 4, 1, 64, 64), rand(1, 64, 2, 2)),
    [*seq("sampler.g{}", 1, 5), "sampler.up_g4"],
    "U multi-input weather",
    notes="recurrent layers begin with skips, at the bottom too; blocks go up; pre-activation; pixel shuffle",
)


class Rained(nn.Module):
    """Two steps ahead."""

    def __init__(self):
        super().__init__()
        loose("jaxtyping", Float=dict, jaxtyped=lambda **_: lambda made: made)
        self.net = alone("mlcast.models.convgru", "ConvGruModel")(1, 3)

    def forward(self, x):
        return self.net(x, steps=2)


FILMS = seq("net.decoder.blocks.{}.convgru", 3)
add(
    "mlcast.ConvGruModel",
    "mlcast",
    2,
    Rained,
    lambda: (rand(1, 3, 1, 32, 32),),
    FILMS,
    "U weather",
    ladders=[[*FILMS, "net.decoder.blocks.2"], seq("net.decoder.blocks.{}", 3)],
    notes="recurrent layers begin with skips, at the bottom too, and nothing comes in; frames have an axis",
)


def cuboids(file, name, **more):
    chosen = dict(enc_depth=[1, 1], dec_depth=[1, 1], base_units=16, num_heads=2, num_global_vectors=0)
    chosen |= dict(enc_attn_patterns=["axial"] * 2, dec_self_attn_patterns=["axial"] * 2, checkpoint_level=0)
    chosen |= dict(dec_cross_attn_patterns=["cross_1x1"] * 2, initial_downsample_scale=2)
    make = alone(f"earthformer.cuboid_transformer.{file}", name)
    return make((4, 32, 32, 2), (3, 32, 32, 2), **chosen | more)


def stacked():
    steps = dict(num_layers=2, dim_list=[8, 16], downscale_list=[2, 2], num_conv_list=[1, 1])
    steps = {f"initial_downsample_stack_conv_{name}": step for name, step in steps.items()}
    name = "CuboidTransformerModel"
    return cuboids("cuboid_transformer", name, initial_downsample_type="stack_conv", **steps)


add(
    "earthformer.CuboidTransformerModel",
    "earthformer",
    3,
    lambda: cuboids("cuboid_transformer", "CuboidTransformerModel"),
    lambda: (rand(1, 4, 32, 32, 2),),
    [*seq("decoder.cross_blocks.{}.0", 1, -1, -1), "final_decoder"],
    "U vit weather",
    notes="attention takes the encoder's maps, at the bottom too; channels last; frames lie in the batch for layers",
)
add(
    "earthformer.CuboidTransformerModel-stack",
    "earthformer",
    3,
    stacked,
    lambda: (rand(1, 4, 32, 32, 2),),
    [*seq("decoder.cross_blocks.{}.0", 1, -1, -1), "in:final_decoder.upsample_list.1", "final_decoder"],
    "U vit weather",
    notes="as above, and the last levels are layers without attention",
)
add(
    "earthformer.CuboidTransformerAuxModel",
    "earthformer",
    3,
    lambda: cuboids("cuboid_transformer_unet_dec", "CuboidTransformerAuxModel"),
    lambda: (rand(1, 4, 32, 32, 2), rand(1, 4, 32, 32, 1), rand(1, 3, 32, 32, 1)),
    [*seq("decoder.up_cross_blocks.{}.0", 1, -1, -1), "final_decoder"],
    "U vit weather multi-input",
    notes="the decoder goes down and up, and attention takes the encoder's maps on the way up; channels last",
)


def spectra():
    return alone("fourier_neural_operator.fourier_unet", "fourier_UNet")(3, 2, 8)


add(
    "fourier-neural-operator.fourier_UNet",
    "fourier-neural-operator",
    2,
    spectra,
    lambda: (rand(1, 32, 32, 3),),
    seq("up{}", 1, 5),
    "U physics",
    notes="spectra in all blocks; channels last",
)


def stirred(net):
    """What begins at nought is made anew."""
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return net


def cast():
    bases = "AutoModelMixin", "PrognosticMixin", "PrognosticModel", "Package"
    for module in ("models.auto", "models.px.base", "models.px.utils", "utils", "utils.type"):
        loose(f"earth2studio.{module}", **{name: type(name, (), {}) for name in bases})
    given = dict.fromkeys(("batch_coords", "batch_func"), lambda *_, **__: lambda made: made)
    loose("earth2studio.models.batch", **given)
    loose("xarray")
    make = alone("earth2studio.models.px.ucast", "DhariwalUNet")
    return stirred(make(3, 2, 32, (1, 2, 2), 1, (2,), channels_per_head=32))


add(
    "earth2studio.DhariwalUNet",
    "earth2studio",
    2,
    cast,
    lambda: (rand(1, 3, 32, 32),),
    [f"dec.{size}x{size}_block1" for size in (60, 120, 240)],
    "U weather",
    notes="blocks are got by name, and take a skip if they are wider; skips at the bottom too; pre-activation",
)


def floyd():
    chosen = dict(num_res_blocks=1, attention_resolutions=(4,), activation="silu", encoder_dim=32, att_pool_heads=2)
    chosen |= dict(encoder_channels=32, image_size=32, channel_mult=(1, 2, 2), resblock_updown=True)
    make = alone("deepfloyd_if.model.unet", "UNetModel")
    return stirred(make(3, 32, 3, use_scale_shift_norm=True, num_head_channels=32, **chosen))


add(
    "deepfloyd-if.UNetModel",
    "deepfloyd-if",
    2,
    floyd,
    lambda: (rand(1, 3, 32, 32), torch.tensor([3]), rand(1, 5, 32)),
    ["output_blocks.1.1", "output_blocks.3.0", "output_blocks.5"],
    "U time cond",
    notes="residual blocks go up, at the ends of the blocks; skips at the bottom too; a text; pre-activation",
)


class Fluxed(nn.Module):
    """Both parts, without chance in the middle."""

    def __init__(self):
        super().__init__()
        where = "fluxflow.models.v070.vae"
        self.down = alone(where, "FluxCompressor")(d_model=16, downscales=3, attn_layers=1, attn_heads=2)
        self.down.reparameterize = lambda mean, _: mean
        self.up = alone(where, "FluxExpander")(d_model=16, upscales=3)

    def forward(self, x):
        return self.up(self.down(x))


LAYERS = seq("up.upscale.layers.{}", 3)
add(
    "fluxflow.FluxExpander",
    "fluxflow",
    2,
    Fluxed,
    lambda: (rand(1, 3, 32, 32),),
    [*LAYERS[:2], "up.to_rgb_conv.5"],
    "U noskip",
    alts={2: [LAYERS[2]]},
    notes="tokens at the bottom, of which norms are made that scale and shift; more layers at the end",
)


class Coded(nn.Module):
    """Both parts, with the likeliest code of each place."""

    def __init__(self):
        super().__init__()
        chosen = dict(n_hid=64, n_blk_per_group=2, vocab_size=512)
        self.encoder = alone("dall_e.encoder", "Encoder")(**chosen)
        self.decoder = alone("dall_e.decoder", "Decoder")(n_init=16, **chosen)

    def forward(self, x):
        code = self.encoder(x).argmax(1)
        return self.decoder(nn.functional.one_hot(code, 512).permute(0, 3, 1, 2).float())


add(
    "dall-e.Decoder",
    "dall-e",
    2,
    Coded,
    x_rgb,
    seq("decoder.blocks.group_{}.block_2", 1, 5),
    "U noskip",
    notes="a book of codes at the bottom; groups of blocks work and go up, on the coarsest level too; pre-activation",
)


class Discrete(nn.Module):
    """With the likeliest code of each place."""

    def __init__(self):
        super().__init__()
        loose("axial_positional_embedding")
        loose("dalle_pytorch.vae")
        loose("dalle_pytorch.distributed_utils", is_distributed=None)
        loose("dalle_pytorch.transformer")
        loose("dalle_pytorch.attention")
        make = alone("dalle_pytorch.dalle_pytorch", "DiscreteVAE")
        self.net = make(64, 32, 16, num_layers=3, num_resnet_blocks=1, hidden_dim=16)

    def forward(self, x):
        return self.net.decode(self.net(x, return_logits=True).argmax(1).flatten(1))


add(
    "dalle-pytorch.DiscreteVAE",
    "dalle-pytorch",
    2,
    Discrete,
    x_rgb,
    seq("net.decoder.{}", 2, 5),
    "U noskip",
    notes="a book of codes at the bottom, and a residual block; a layer that goes up and an activation are each level",
)


def fused():
    return alone("fusion_threed.model", "Diffusion3DGenerator")(32, 32, 10, 8)


add(
    "fusion-threed.Diffusion3DGenerator",
    "fusion-threed",
    3,
    fused,
    lambda: (rand(1, 3, 32, 32), torch.tensor([3])),
    seq("decoder.{}", 3, 16, 4),
    "U noskip time",
    notes="a volume of a vector of an image; layers go up, a norm, an activation, attention; the last makes the logits",
)


class Filmed(nn.Module):
    """Without codes in the middle."""

    def __init__(self):
        super().__init__()
        loose("vector_quantize_pytorch", LFQ=lambda **_: nn.Identity())
        loose("gateloop_transformer")
        loose("taylor_series_linear_attention", TaylorSeriesLinearAttn=nn.Identity)
        loose("kornia.filters")
        make = alone("magvit2_pytorch.magvit2_pytorch", "VideoTokenizer")
        layers = ("residual", "compress_space", "residual", "compress_space", "residual")
        more = dict(codebook_size=16, init_dim=8, input_conv_kernel_size=(3, 3, 3), perceptual_loss_weight=0.0)
        self.net = make(image_size=32, layers=layers, **more)

    def forward(self, x):
        return self.net.decode(self.net.encode(x))


add(
    "magvit2.VideoTokenizer",
    "magvit2-pytorch",
    3,
    Filmed,
    lambda: (rand(1, 3, 4, 32, 32),),
    seq("net.decoder_layers.{}", 0, 5, 2),
    "U noskip",
    notes="films; blocks and pixel shuffles lie in one list, at the bottom too; two axes shrink",
)


def coloured(name, **more):
    loose("pkg_resources", require=lambda _: None)
    for module in ("requests", "yaml", "matplotlib.pyplot", "matplotlib.patches", "fastprogress.fastprogress"):
        loose(module)
    loose("matplotlib", pyplot=sys.modules["matplotlib.pyplot"])
    for module in ("callback", "basic_data", "vision"):
        loose(f"fastai.{module}", Callback=object, DataBunch=object)
    loose("fastai.basic_train", Learner=type("Learner", (), {}), LearnerCallback=object)
    alone("fastai.callbacks.hooks", "Hook")
    make = alone("deoldify.unet", name)
    blocks = [nn.Sequential(nn.Conv2d(a, a + 8, 3, 2, 1), nn.ReLU()) for a in (8, 16, 24)]
    return make(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), *blocks), 3, **more).eval()


COLOURED = [*seq("layers.{}", 4, 7), "layers.9"]
add(
    "deoldify.DynamicUnetDeep",
    "deoldify",
    2,
    lambda: coloured("DynamicUnetDeep", self_attention=True),
    x_rgb,
    COLOURED,
    "U colours",
    notes="hooks of its own take the encoder's maps; pixel shuffles; attention in a block; the image is a skip too",
)
add(
    "deoldify.DynamicUnetWide",
    "deoldify",
    2,
    lambda: coloured("DynamicUnetWide", nf_factor=1),
    x_rgb,
    COLOURED,
    "U colours",
    notes="hooks of its own take the encoder's maps; pixel shuffles; the image is a skip too",
)
