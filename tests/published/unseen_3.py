"""A third list, of 29 November 2026, written blind: medical and microscopy networks of packages not tried before."""

import collections

from torch import nn

from published.base import adder, alone, loose, named, rand, seq, x2, x3, x_rgb

add = adder("unseen-3")
add(
    "gandlf.unet-3D",
    "gandlf",
    3,
    lambda: gandlf("unet", 3),
    x3,
    seq("de_{}", 3, -1, -1),
    notes="the head begins with a norm and an activation",
)


def gandlf(name, dims=2, **more):
    loose("acsconv.converters")
    loose("GANDLF.utils", get_linear_interpolation_mode={2: "bilinear", 3: "trilinear"}.get)
    loose("GANDLF.utils.generic", checkPatchDivisibility=lambda _: True, checkPatchDimensions=lambda _, numlay: numlay)
    loose("GANDLF.utils.modelbase", get_modelbase_final_layer=lambda _: None)
    size = [64, 64, 1] if dims == 2 else [32, 32, 32]
    model = dict(architecture=name, dimension=dims, num_channels=1, num_classes=3, base_filters=8, norm_type="instance")
    model |= dict(amp=False, final_layer="none", **more)
    return alone("GANDLF.models." + name, name)(dict(model=model, patch_size=size, batch_size=1))


add(
    "gandlf.uinc",
    "gandlf",
    2,
    lambda: gandlf("uinc"),
    x2,
    ["ri_5", "ri_6", "ri_7", "rn_10"],
    notes="two merges at full size; activations are functions",
)
add(
    "gandlf.transunet",
    "gandlf",
    2,
    lambda: gandlf("transunet", depth=4, embed_dim=48, num_heads=4),
    x2,
    ["transCUP.relu", "de.2.relu", "de.1.relu", "de.0.relu"],
    "U vit",
    ladders=[["transCUP", "de.2", "de.1", "de.0"]],
    notes="each block merges, works and goes up; at full size there is only the head",
)


def quicknat():
    params = dict(num_channels=1, num_filters=64, kernel_h=5, kernel_w=5, kernel_c=1, stride_conv=1)
    return alone("quickNat_pytorch.quickNAT", "quickNAT")(params | dict(pool=2, stride_pool=2, num_class=4))


add(
    "quicknat.quickNAT",
    "quicknat-pytorch",
    2,
    quicknat,
    x2,
    ["decode4.conv3", "decode1.conv3", "decode2.conv3", "decode3.conv3"],
    notes="unpooling by indices; the blocks' forward is called, not the blocks; each begins with a norm",
)
RTS = "rts_package.models.unet"
add(
    "rts.U2NET",
    "root-tissue-seg-package",
    2,
    lambda: alone(RTS, "U2NET")(3, 1, hparams={}),
    x2,
    ["stage6", "stage5d", "stage4d", "stage3d", "stage2d", "stage1d"],
    "U nested DS",
    notes="blocks are U's themselves; forward() is written with functions in it; seven probabilities are returned",
)
add(
    "tractseg.UNet-DeepSup",
    "tractseg",
    2,
    lambda: alone("tractseg.models.unet_pytorch_deepsup", "UNet_Pytorch_DeepSup")(3, 4, 8),
    x_rgb,
    seq("expand_{}_2", 1, 5),
    ladders=[["expand_1_2", "in:output_2", "in:output_3", "expand_4_2"]],
    notes="logits made of what two levels merge, before they work, are added to those of the last",
)
add(
    "tractseg.UNet3D-DeepSup",
    "tractseg",
    3,
    lambda: alone("tractseg.models.unet3d_pytorch_deepsup_sm", "UNet3D_Pytorch_DeepSup_sm")(1, 4, 8),
    x3,
    seq("expand_{}_2", 2, 5),
    ladders=[["in:output_2", "in:output_3", "expand_4_2"]],
)


def nnunet():
    loose("nnunet.network_architecture.neural_network", SegmentationNetwork=nn.Module)
    kwargs = dict(conv_op=nn.Conv3d, norm_op=nn.InstanceNorm3d, dropout_op=nn.Dropout3d, final_nonlin=lambda x: x)
    kwargs |= dict(dropout_op_kwargs={"p": 0.0, "inplace": True}, convolutional_pooling=True)
    make = alone("nnunet.network_architecture.generic_UNet", "Generic_UNet")
    return make(1, 8, 3, 3, convolutional_upsampling=True, **kwargs)


add(
    "nnunet-v1.Generic_UNet-3D-ds",
    "nnunet",
    3,
    nnunet,
    x3,
    seq("conv_blocks_localization.{}", 3),
    "U DS",
    notes="logits of all levels are returned, the finest first",
)


class Voxels(nn.Module):
    """A network whose features and head are called apart by its package."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        features = self.net.forward_features(x).movedim(1, -1)
        return self.net.classifier(self.net.token_norm(features)).movedim(-1, 1)


add(
    "scalesurfer.TransUNet3D",
    "scalesurfer",
    3,
    lambda: Voxels(
        alone("scalesurfer.models.volume", "TransUNet3D")(
            4, base_shape=(64, 64, 64), channels=(8, 8, 8, 16, 16, 32), transformer_depth=1
        )
    ),
    lambda: (rand(1, 1, 64, 64, 64),),
    seq("net.up{}", 5, 0, -1),
    "U vit",
    notes="tokens at the bottleneck; the head is a norm and a linear layer over channels",
)
add(
    "self_attention_cv.TransUnet",
    "self-attention-cv",
    2,
    lambda: named("self_attention_cv.transunet.trans_unet", "TransUnet")(
        img_dim=64, in_channels=3, classes=4, vit_blocks=1, vit_dim_linear_mhsa_block=64, vit_channels=64
    ),
    x_rgb,
    seq("dec{}", 1, 5),
    "U vit",
)
add(
    "self_attention_cv.UNETR",
    "self-attention-cv",
    3,
    lambda: alone("self_attention_cv.UnetTr.UnetTr", "UNETR")(
        img_shape=(32, 32, 32), input_dim=1, output_dim=3, embed_dim=48, num_heads=4, dim_linear_block=64
    ),
    x3,
    ["z9_conv", "z6_conv", "z3_conv", "out_conv.0"],
    "U vit",
)


def vnet():
    loose("ganslate.configs", base=collections.namedtuple("Base", "BaseGeneratorConfig")(object))
    make = alone("ganslate.nn.generators.vnet.vnet3d", "Vnet3D")
    return make(1, 1, "instance", 8, (1, 1, 1), (1, 1, 1), use_memory_saving=False, use_inverse=False)


add(
    "ganslate.Vnet3D",
    "ganslate",
    3,
    vnet,
    x3,
    seq("ups.{}", 3),
    "U gan",
    alts={2: ["out_ab.relu1"]},
    notes="blocks of couplings; the head has two convolutions",
)
add(
    "mmv_im2im.fnet-3D",
    "mmv-im2im",
    3,
    lambda: alone("mmv_im2im.models.nets.fnet_nn_3d", "Net")(3, 8, 1, 2),
    x3,
    ["net_recurse.sub_u.sub_u", "net_recurse.sub_u", "net_recurse"],
    notes="a block calls a smaller one of its kind",
)
add(
    "mmv_im2im.ProbabilisticUNet",
    "mmv-im2im",
    2,
    lambda: alone("mmv_im2im.models.nets.ProbUnet", "ProbabilisticUNet")(2, 1, 3, (8, 16, 32, 64), (1, 2, 2, 2)),
    x2,
    seq("unet_decoder.{}", 1, 6, 2),
    alts={2: ["f_comb.1"]},
    notes="a random vector is laid beside the last map; the head has three convolutions; a dict",
)
add(
    "mmv_im2im.ERFNet-3D",
    "mmv-im2im",
    3,
    lambda: alone("mmv_im2im.models.nets.erfnet_3d", "Net")(3, 1),
    x3,
    ["decoder.layers.2", "decoder.layers.5"],
    "U noskip",
    ladders=[["decoder.layers.2", "decoder.layers.5", "decoder.output_conv"]],
    notes="a transposed convolution makes the logits; the decoder's forward is called",
)
WNET = "napari_cellseg3d.code_models.models.wnet.model"
add(
    "cellseg3d.WNet_encoder",
    "napari-cellseg3d",
    3,
    lambda: alone(WNET, "WNet_encoder")(1, 2),
    lambda: (rand(1, 1, 16, 16, 16),),
    ["encoder.deconv2", "encoder.deconv3", "encoder.out_b.module.7"],
    alts={2: ["encoder.out_b.module.8"]},
    notes="the last block makes the logits; a softmax",
)
add(
    "cellseg3d.WNet",
    "napari-cellseg3d",
    3,
    lambda: alone(WNET, "WNet")(1, 1, 2),
    lambda: (rand(1, 1, 16, 16, 16),),
    ["decoder.deconv2", "decoder.deconv3", "decoder.out_b.module.7"],
    "U cascade",
    alts={2: ["decoder.out_b.module.8"]},
    notes="two U's, one after the other; the classes of the first are returned too",
)
add(
    "bidcell.SegmentationModel",
    "bidcell",
    2,
    lambda: alone("bidcell.model.model.model", "SegmentationModel")(8),
    lambda: (rand(1, 8, 64, 64),),
    seq("relu{}d_1", 4, 0, -1),
    "U full-scale",
    notes="all layers are the network's own",
)


class Spots(nn.Module):
    """A backbone that returns maps of all levels, and what makes heatmaps of each."""

    def __init__(self):
        super().__init__()
        kernels = ((3, 3), (3, 3))
        make = alone("spotiflow.model.backbones.unet", "UNetBackbone")
        self.backbone = make(1, 8, ((2, 2),) * 3, kernel_sizes=kernels)
        self.post = alone("spotiflow.model.post", "MultiHeadProcessor")(
            self.backbone.out_channels_list, 1, kernels, 8, use_slim_mode=True
        )

    def forward(self, x):
        return dict(heatmaps=self.post(self.backbone(x)))


add(
    "spotiflow.UNet",
    "spotiflow",
    2,
    Spots,
    x2,
    seq("post.heads.{}", 3, -1, -1),
    "U DS",
    ladders=[["backbone.middle", *seq("backbone.up_blocks.{}", 2, -1, -1)]],
    notes="logits of all levels, the bottleneck too; each head has three convolutions",
)


def hovernet():
    for name in ("sklearn", "sklearn.utils", "sklearn.utils.class_weight", "torch_geometric", "torch_geometric.utils"):
        loose(name)
    loose("pathml.utils")
    return alone("pathml.ml.models.hovernet", "HoVerNet")(4)


add(
    "pathml.HoVerNet",
    "pathml",
    2,
    hovernet,
    x_rgb,
    ["np_branch.conv2", "np_branch.conv4", "np_branch.conv5"],
    "U multi",
    notes="three decoders of one kind; skips are added before each level works",
)
add(
    "cellseg_sribd.FlexibleUNet_star",
    "cellseg-sribd",
    2,
    lambda: alone("models.flexible_unet_convnext", "FlexibleUNet_star")(3, 4, "convnext_small", n_rays=8),
    x_rgb,
    seq("decoder.blocks.{}", 4),
    "U heads",
    notes="two heads on one decoder, at half size",
)
