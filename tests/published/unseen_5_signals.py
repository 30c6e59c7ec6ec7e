"""The rest of the fifth list, also blind: pictures made of noise, restoration, sound, weather, depth, radio skies."""

import collections
import types

import torch
from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x3, x_rgb

add = adder("unseen-5")


def noise(channels=3):
    return rand(1, channels, 32, 32), torch.tensor([3.0])


def xunet():
    block, item = alone("a_unet.apex", "XBlock"), named("a_unet.apex", "ResnetItem")
    blocks = [block(channels=8 * 2**i, factor=1 if i == 0 else 2, items=[item]) for i in range(4)]
    return named("a_unet.apex", "XUNet")(in_channels=2, dim=1, blocks=blocks, resnet_groups=4)


INNER = ["net" + ".block.blocks.2" * i for i in range(4)]
XUNET = [INNER[i] + ".block.blocks.3" for i in (2, 1, 0)]
add(
    "a-unet.XUNet-1D",
    "a-unet",
    1,
    xunet,
    lambda: (rand(1, 2, 256),),
    XUNET,
    "U audio nested-modules",
    ladders=[[INNER[3] + ".block.blocks.2", *XUNET]],
    notes="blocks lie in each other, work after the inner one, go up and add what they were given",
)


class Spectra(nn.Module):
    """Stands for the transform of a sound into a spectrum, which is given, and back."""

    def forward(self, x):
        return x

    def inverse(self, x):
        return x


def tfc_tdf():
    audio = types.SimpleNamespace(n_fft=256, hop_length=64, dim_f=128, num_channels=2)
    model = types.SimpleNamespace(
        norm="InstanceNorm", act="gelu", num_subbands=4, num_scales=2, scale=[2, 2], num_blocks_per_scale=1
    )
    vars(model).update(num_channels=16, growth=8, bottleneck_factor=4)
    training = types.SimpleNamespace(target_instrument="a", instruments=["a"])
    config = types.SimpleNamespace(audio=audio, model=model, training=training)
    net = alone("mdxnet_infer.model", "TFC_TDF_net")(config, torch.device("cpu"))
    net.stft = Spectra()
    return net


add(
    "mdxnet-infer.TFC_TDF_net",
    "mdxnet-infer",
    2,
    tfc_tdf,
    lambda: (rand(1, 4, 128, 32),),
    ["decoder_blocks.0.tfc_tdf", "final_conv.1#-1"],
    "U audio",
    notes="bands are laid beside each other; axes are swapped; the input gates the last map and is laid beside it",
)


def waveunet():
    loose("mayavoz.data.dataset", MayaDataset=type("MayaDataset", (), {}))
    loose("mayavoz.models.model", Mayamodel=Mayamodel)
    return alone("mayavoz.models.waveunet", "WaveUnet")(1, 4, 8)


class Mayamodel(nn.Module):
    """Stands for what the package's networks are made from, which trains them."""

    def __init__(self, **_):
        super().__init__()

    def save_hyperparameters(self, *_):
        pass


add(
    "mayavoz.WaveUnet",
    "mayavoz",
    1,
    waveunet,
    lambda: (rand(1, 1, 256),),
    seq("decoders.{}", 4),
    "U audio",
    alts={3: ["in:final"]},
    notes="goes down by slicing; the sound is laid beside the last map",
)


class Waves(nn.Module):
    """A network that takes and returns a dict."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(dict(waveform=x))["waveform"]


def wavunet():
    for package in ("torchlibrosa.stft", "pytorch_lightning", "matplotlib", "matplotlib.pyplot"):
        loose(package)
    return Waves(alone("bytesep.models.wavunet", "WavUNet")(1, 1, 1))


add(
    "bytesep.WavUNet",
    "bytesep",
    1,
    wavunet,
    lambda: (rand(1, 1, 8192),),
    [*seq("net.decoder_block{}", 1, 6), "net.after_conv_block1"],
    "U audio",
    notes="strides of 4; a block more after the last; padded and cropped",
)


def kdiffusion():
    for package in ("dctorch", "dctorch.functional", "k_diffusion.sampling"):
        loose(package)
    return alone("k_diffusion.models.image_v1", "ImageDenoiserModelV1")(3, 16, (1, 1, 1), (32, 32, 64), (False,) * 3)


add(
    "k-diffusion.ImageDenoiserModelV1",
    "k-diffusion",
    2,
    kdiffusion,
    noise,
    seq("u_net.u_blocks.{}.0", 3),
    "U time",
    notes="blocks end by going up, the coarsest too; layers that begin at nought; wavelet-like kernels go up",
)


def efficient():
    loose("diffusions.utils.jax")
    make = alone("diffusions.models.imagen.unet", "UnconditionalEfficientUnet")
    return make(block_out_channels=(8, 16, 32), layers_per_block=2, num_heads=(None,) * 3)


class Sampled(nn.Module):
    """Takes the map of a dict."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, *inputs):
        return self.net(*inputs)["sample"]


add(
    "diffusions.UnconditionalEfficientUnet",
    "diffusions",
    2,
    lambda: Sampled(efficient()),
    noise,
    ["net.up_blocks.1.resnets.1", "net.up_blocks.2.resnets.1", "net.up_blocks.2"],
    "U time",
    notes="blocks end by going up, with a layer after it; two blocks on the coarsest level; skips there too",
)


class Described(nn.Module):
    """Stands for what the package's networks are made from, which keeps their descriptions."""

    def __init__(self, meta=None):
        super().__init__()


def physics():
    loose("jaxtyping", Float=collections.defaultdict(lambda: object))
    loose("physicsnemo.core.meta", ModelMetaData=object)
    loose("physicsnemo.core.module", Module=Described)
    loose("physicsnemo.core.version_check", check_version_spec=lambda *_, **more: False)
    return alone("physicsnemo.models.unet.unet", "UNet")(
        1, 3, model_depth=3, feature_map_channels=(8, 8, 16, 16, 32, 32), gradient_checkpointing=False
    )


add(
    "physicsnemo.UNet",
    "nvidia-physicsnemo",
    3,
    physics,
    x3,
    ["decoder.layers.2", "decoder.layers.5"],
    "U physics",
    notes="one list of layers, whose kind tells where skips are kept and laid beside",
)
add(
    "nowcastnet.EvolutionNetwork",
    "nowcastnet-rewritten",
    2,
    lambda: alone("nowcastnet.model.modules.evolution.evolution_network", "EvolutionNetwork")(4, 6, 8, True),
    lambda: (rand(1, 4, 64, 64),),
    seq("up{}", 1, 5),
    "U weather multi",
    notes="two decoders of one kind on shared skips, for rain and for wind; the first's output begins at nought",
)
add(
    "nafnetlib.NAFNet",
    "nafnetlib",
    2,
    lambda: alone("nafnetlib.models.nafnet", "NAFNet")(3, 8, 1, [1, 1, 1], [1, 1, 1]),
    x_rgb,
    seq("decoders.{}", 3),
    "U restoration",
    notes="the parent adds skips; pixel shuffle; blocks that do nothing at first; the image is added to the output",
)
add(
    "radionets.SRResNet18",
    "radionets",
    2,
    lambda: alone("radionets.architecture.archs", "SRResNet18")(),
    lambda: (rand(1, 2, 32, 32),),
    ["in:final"],
    "nonU radio",
    notes="one resolution",
)


def imagen():
    for package in ("kornia", "kornia.augmentation", "imagen_pytorch.imagen_video"):
        loose(package)
    loose("imagen_pytorch.t5", get_encoded_dim=lambda _: 16, DEFAULT_T5_NAME="")
    make = alone("imagen_pytorch.imagen_pytorch", "Unet")
    more = dict(layer_attns=(False, False, True), layer_cross_attns=False, attn_heads=2, attn_dim_head=8)
    return make(dim=16, dim_mults=(1, 2, 4), cond_on_text=False, combine_upsample_fmaps=True, **more)


add(
    "imagen-pytorch.Unet",
    "imagen-pytorch",
    2,
    imagen,
    noise,
    ["ups.0.2", "ups.1.2", "final_res_block"],
    "U time",
    notes="skips at the bottleneck too; what all levels made is brought to full size and merged; pixel shuffle",
)


def convtasnet():
    loose("asteroid.complex_nn")
    loose("asteroid.masknn.base", BaseDCUMaskNet=nn.Module)
    return alone("asteroid.masknn.convolutional", "TDConvNet")(
        16, 2, n_blocks=2, n_repeats=2, bn_chan=8, hid_chan=16, skip_chan=8
    )


add(
    "asteroid.TDConvNet",
    "asteroid",
    1,
    convtasnet,
    lambda: (rand(1, 16, 128),),
    ["in:mask_net"],
    "nonU audio",
    notes="one resolution, dilated layers; sources are an axis of the output",
)


class Retrieval(nn.Module):
    """The package's encoder, which returns maps by scale, its decoder, and a head."""

    def __init__(self):
        super().__init__()
        conv = "pytorch_retrieve.modules.conv."
        self.encoder = alone(conv + "encoders", "Encoder")([8, 16, 24, 32], [1, 2, 2, 2], 5, [2, (1, 2), 2])
        self.decoder = alone(conv + "decoders", "Decoder")(
            [32, 24, 16, 8], [2, 2, 1], [2, (1, 2), 2], skip_connections=self.encoder.skip_connections
        )
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        return self.head(self.decoder(self.encoder(x)))


add(
    "pytorch-retrieve.Decoder",
    "pytorch-retrieve",
    2,
    Retrieval,
    lambda: (rand(1, 5, 64, 64),),
    seq("decoder.stages.{}", 3),
    "U satellites",
    alts={0: ["decoder.upsamplers.1.0"], 1: ["decoder.upsamplers.2.0"]},
    notes="a layer narrows before going up; one level goes up along one axis; maps are kept by scale in a dict",
)


class Patches(nn.Module):
    """A plain transformer whose layers' tokens, without a class token, are given to the package's head."""

    def __init__(self):
        super().__init__()
        self.net = named("timm", "create_model")(
            "vit_tiny_patch16_224", img_size=64, patch_size=16, embed_dim=48, depth=4, num_heads=4
        )
        head = alone("lightly_train._task_models.depth_estimation_components.dpt", "DPT")
        self.head = head(48, patch_size=16, features=16, out_channels=(12, 16, 24, 32))

    def forward(self, x):
        maps = self.net.forward_intermediates(x, [0, 1, 2, 3], intermediates_only=True)
        return self.head([one.flatten(2).transpose(1, 2) for one in maps], *x.shape[2:])


SCRATCH = "head.scratch."
add(
    "lightly-train.DPT",
    "lightly-train",
    2,
    Patches,
    x_rgb,
    [*seq(SCRATCH + "refinenet{}", 4, 1, -1), SCRATCH + "output_conv1", SCRATCH + "output_conv2.1"],
    "U depth vit heads",
    alts={3: [SCRATCH + "refinenet1"]},
    notes="DPT; two heads of two layers go up first, for depth and for sky; sums are quantized modules' functions",
)
