"""One operation is of one kind, whether it was seen as a layer, a function, a method or an ATen operation."""

import pytest
from torch import fx

from lomix_search.instrumentation.stages.operations import Operation, joins, kind, only_pads, weighted

_NAMES = {
    Operation.CONVOLUTION: ["Conv2d", "ConvTranspose3d", "conv_transpose2d", "convolution", "deform_conv2d"],
    Operation.LINEAR: ["Linear", "linear", "addmm", "mm"],
    Operation.MATRIX_PRODUCT: ["matmul", "bmm", "baddbmm"],
    Operation.SCALED_DOT_PRODUCT: ["scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu"],
    Operation.EINSUM: ["einsum", "tensordot"],
    Operation.FOURIER: ["fft_rfftn", "_fft_c2r", "stft"],
    Operation.ATTENTION: ["MultiheadAttention", "multi_head_attention_forward"],
    Operation.UPSAMPLE: ["Upsample", "interpolate", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_linear1d"],
    Operation.ADAPTIVE_POOL: ["AdaptiveAvgPool2d", "_adaptive_avg_pool2d"],
    Operation.POOL: ["MaxPool3d", "max_pool2d_with_indices"],
    Operation.PIXEL_SHUFFLE: ["PixelShuffle", "PixelUnshuffle", "pixel_shuffle"],
    Operation.PAD: ["ReplicationPad2d", "replication_pad2d", "constant_pad_nd", "pad"],
    Operation.CONCATENATION: ["cat", "concat", "concatenate"],
    Operation.STACK: ["stack"],
    Operation.BLOCK_STACK: ["hstack", "dstack"],
    Operation.SCATTER: ["slice_scatter", "scatter_add", "index_add_"],
    Operation.CROP: ["getitem", "slice", "narrow", "_item", "index_select"],
    Operation.INDEX: ["index", "gather", "take_along_dim"],
    Operation.BATCH_NORM: ["BatchNorm2d", "InstanceNorm3d", "_native_batch_norm_legit_no_training"],
    Operation.NORM: ["LayerNorm", "group_norm", "linalg_vector_norm"],
    Operation.ACTIVATION: ["ReLU", "leaky_relu_", "gelu", "SiLU"],
    Operation.SOFTMAX: ["Softmax", "_softmax"],
    Operation.LOG_SOFTMAX: ["LogSoftmax", "_log_softmax"],
    Operation.SIGMOID: ["Sigmoid", "sigmoid_", "special_expit"],
    Operation.LOG_SIGMOID: ["LogSigmoid", "log_sigmoid_forward"],
    Operation.ADDITION: ["add", "add_", "iadd"],
    Operation.SUBTRACTION: ["sub", "isub", "rsub"],
    Operation.MULTIPLICATION: ["mul", "imul", "multiply_"],
    Operation.DIVISION: ["div", "truediv", "true_divide"],
    Operation.COPY: ["copy_"],
    Operation.WRITE: ["setitem", "after", "index_put_", "_index_put_impl_"],
    Operation.CREATION: ["zeros_like", "new_empty", "randn"],
    Operation.RESHAPE: ["view", "reshape", "_unsafe_view", "Flatten", "unflatten", "ravel", "squeeze"],
    Operation.UNSQUEEZE: ["unsqueeze"],
    Operation.MATRIX_TRANSPOSE: ["t", "numpy_T", "mT", "adjoint"],
    Operation.TRANSPOSE: ["permute", "transpose", "movedim", "swapaxes"],
    Operation.FORM: ["expand", "chunk", "split_with_sizes", "_to_copy", "type_as", "view_as", "broadcast_to", "real"],
    Operation.DECISION: ["argmax", "round_", "gt", "one_hot", "less_equal"],
    Operation.CLAMP: ["clamp", "clamp_max", "Hardtanh"],
    Operation.REDUCTION: ["mean", "amax", "logsumexp", "var_mean", "max"],
    Operation.OTHER: ["tanh", "roll", "bilinear"],
}


@pytest.mark.parametrize(("name", "wanted"), [(name, wanted) for wanted, names in _NAMES.items() for name in names])
def test_every_name_of_an_operation_gives_its_kind(name: str, wanted: Operation):
    graph = fx.Graph()
    assert kind(graph.call_method(name, (graph.placeholder("x"),))) is wanted


def test_the_name_of_a_parameter_is_no_operation():
    node = fx.Graph().create_node("get_attr", "concat_conv_weight")
    assert kind(node) is Operation.SOURCE and not weighted(node) and not joins(node)


@pytest.mark.parametrize(
    ("name", "pads"), [("conv2d", True), ("conv_transpose2d", False), ("pad", True), ("relu", False)]
)
def test_a_convolution_only_pads_what_it_is_given_itself(name: str, pads: bool):
    graph = fx.Graph()
    given, other = graph.placeholder("x"), graph.placeholder("y")
    node = graph.call_method(name, (given,))
    assert only_pads(node, given) is pads
    assert only_pads(node, other) is (name == "pad")
