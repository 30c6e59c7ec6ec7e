"""What kind of operation each node of a graph is: the one place that reads operations by their names.

A name is a layer's class (``Conv2d``), a function, a method or an ATen operation (``conv2d``, ``_convolution``), as the
back end saw it. The first pattern that fits it decides; the rules of this package ask for kinds and groups of kinds.
"""

import enum
import functools
import re

from torch import fx

from lomix_search.instrumentation.trace import operation


class Operation(enum.Enum):
    """What a node does to the values that it is given."""

    SOURCE = enum.auto()  # an input, a parameter, the graph's output: no operation
    PAD = enum.auto()
    CONVOLUTION = enum.auto()
    ADAPTIVE_POOL = enum.auto()
    POOL = enum.auto()
    UPSAMPLE = enum.auto()
    PIXEL_SHUFFLE = enum.auto()
    GRID_SAMPLE = enum.auto()
    BATCH_NORM = enum.auto()  # batch and instance norms, which take B × C × space
    DROPOUT = enum.auto()
    SCALED_DOT_PRODUCT = enum.auto()
    ATTENTION = enum.auto()  # a whole layer of attention
    EINSUM = enum.auto()
    MATRIX_PRODUCT = enum.auto()
    LINEAR = enum.auto()
    LOG_SOFTMAX = enum.auto()
    SOFTMAX = enum.auto()
    SOFTMIN = enum.auto()
    LOG_SIGMOID = enum.auto()
    SIGMOID = enum.auto()
    DECISION = enum.auto()  # scores become numbers of classes, ranks or truth values
    CLAMP = enum.auto()
    NORM = enum.auto()  # layer and group norms, which take any layout
    ACTIVATION = enum.auto()
    FOURIER = enum.auto()  # to frequencies and back
    SCATTER = enum.auto()  # parts of a value are replaced by another
    CONCATENATION = enum.auto()
    STACK = enum.auto()
    BLOCK_STACK = enum.auto()  # hstack, vstack and their like, along an axis of their own choice
    CREATION = enum.auto()  # a new tensor of a given shape
    COPY = enum.auto()  # all of a tensor is overwritten
    WRITE = enum.auto()  # parts of a tensor are overwritten, or an alias of it was
    CROP = enum.auto()
    INDEX = enum.auto()
    TRANSPOSE = enum.auto()  # axes change places
    MATRIX_TRANSPOSE = enum.auto()
    ATTRIBUTE = enum.auto()
    UNSQUEEZE = enum.auto()
    RESHAPE = enum.auto()
    CLONE = enum.auto()
    FORM = enum.auto()  # anything else that changes only axes, size or type
    MULTIPLICATION = enum.auto()
    DIVISION = enum.auto()
    ADDITION = enum.auto()
    SUBTRACTION = enum.auto()
    LOG = enum.auto()
    REDUCTION = enum.auto()
    OTHER = enum.auto()


_PATTERNS = {
    Operation.PAD: r".*pad.*",
    Operation.CONVOLUTION: r".*conv.*",
    Operation.ADAPTIVE_POOL: r".*adaptive.*pool.*",
    Operation.POOL: r".*pool.*",
    Operation.UPSAMPLE: r".*(interpolate|upsampl).*",
    Operation.PIXEL_SHUFFLE: r".*pixel_?(un)?shuffle.*",
    Operation.GRID_SAMPLE: r".*grid_sample.*",
    Operation.BATCH_NORM: r".*(norm[123]d|batch_norm|instance_norm).*",
    Operation.DROPOUT: r".*dropout.*",
    Operation.SCALED_DOT_PRODUCT: r".*scaled_dot_product.*",
    Operation.ATTENTION: r".*attention.*",
    Operation.EINSUM: r".*(einsum|tensordot).*",
    Operation.MATRIX_PRODUCT: r".*(matmul|bmm).*",
    Operation.LINEAR: r".*((?<!bi)(?<!tri)linear|addmm).*|mm",
    Operation.LOG_SOFTMAX: r".*log_?softmax.*",
    Operation.SOFTMAX: r".*softmax.*",
    Operation.SOFTMIN: r".*softmin.*",
    Operation.LOG_SIGMOID: r".*log_?sigmoid.*",
    Operation.SIGMOID: r".*(sigmoid|expit).*",
    Operation.DECISION: (
        r"arg(max|min|sort)|topk|one_hot|bucketize|heaviside|sign|"
        r"(round|gt|ge|lt|le|eq|ne|greater|less|(greater|less|not)_equal)_?"
    ),
    Operation.CLAMP: r".*(clamp|clip|hardtanh).*",
    Operation.NORM: r".*norm.*",
    Operation.ACTIVATION: r".*(relu|elu|gelu|silu|swish|mish).*",
    Operation.FOURIER: r".*(fft|stft).*",
    Operation.SCATTER: r".*scatter.*|index_(add|reduce).*",
    Operation.CONCATENATION: r".*cat.*",
    Operation.STACK: r"_?stack",
    Operation.BLOCK_STACK: r".*stack.*",
    Operation.CREATION: r".*(zeros|ones|full|empty|rand|randn)(_like|_strided|_permuted)?",
    Operation.COPY: r"copy_",
    Operation.WRITE: r"setitem|after|_?index_(put|copy|fill).*",
    Operation.CROP: r".*(slice|crop|narrow|getitem|_item|index_select).*",
    Operation.INDEX: r".*(index|gather|take).*",
    Operation.TRANSPOSE: r"permute|transpose|swap(axes|dims)|move(dim|axis)",
    Operation.MATRIX_TRANSPOSE: r"t|numpy_T|mT|mH|matrix_H|adjoint",
    Operation.ATTRIBUTE: r"getattr",
    Operation.UNSQUEEZE: r"unsqueeze",
    Operation.RESHAPE: r"(_unsafe_)?view|reshape|(un)?flatten|ravel|squeeze|rearrange",
    Operation.CLONE: r"contiguous|clone",
    Operation.FORM: (
        r".*(permute|transpose|swap|move|squeeze|view|reshape|flatten|resize|item|select|to_copy|detach|alias|identity|"
        r"expand|broadcast|chunk|split).*|real|imag|to|float|half|double|bfloat16|type|type_as"
    ),
    Operation.MULTIPLICATION: r"i?mul_?|rmul|multiply_?",
    Operation.DIVISION: r"i?r?(true_?)?div(ide)?_?",
    Operation.ADDITION: r"i?add_?|addc(mul|div)_?|_add_relu_?",
    Operation.SUBTRACTION: r"i?sub_?|rsub|subtract_?",
    Operation.LOG: r"log_?",
    Operation.REDUCTION: r".*(mean|max$|sum|std|var).*",
}

LEARNED = {
    Operation.CONVOLUTION,
    Operation.LINEAR,
    Operation.MATRIX_PRODUCT,
    Operation.SCALED_DOT_PRODUCT,
    Operation.ATTENTION,
    Operation.EINSUM,
}
"""Layers that learn, or mix channels as one."""

PRODUCTS = {Operation.EINSUM, Operation.MATRIX_PRODUCT}
"""What multiplies two values that both may be made by layers."""

JOINS = {Operation.CONCATENATION, Operation.STACK, Operation.BLOCK_STACK, Operation.SCATTER}
"""What lays maps beside each other."""

SUMS = {Operation.ADDITION, Operation.SUBTRACTION}

GATES = {Operation.SOFTMAX, Operation.LOG_SOFTMAX, Operation.SIGMOID, Operation.LOG_SIGMOID}
"""What makes attention values, or probabilities."""

NORMS_AND_ACTIVATIONS = {Operation.BATCH_NORM, Operation.NORM, Operation.ACTIVATION}

PADS_OR_CROPS = {Operation.PAD, Operation.CROP, Operation.INDEX}

WRITES = {Operation.COPY, Operation.WRITE, Operation.CREATION}
"""What puts a value into another tensor, which may be larger."""

GLOBAL_POOLS = {Operation.ADAPTIVE_POOL, Operation.REDUCTION}

SPATIAL = {
    Operation.CONVOLUTION,
    Operation.POOL,
    Operation.ADAPTIVE_POOL,
    Operation.UPSAMPLE,
    Operation.BATCH_NORM,
    Operation.PIXEL_SHUFFLE,
}
"""Layers that take nothing but B × C × space, and so tell which axes of their values these are."""

RESHAPES = {Operation.RESHAPE, Operation.UNSQUEEZE}

PERMUTES = {Operation.TRANSPOSE, Operation.MATRIX_TRANSPOSE, Operation.ATTRIBUTE}
"""What may give the axes another order; of the attributes, ``.T`` and its like do."""

KEEPS_VALUES = {
    Operation.PAD,
    Operation.UPSAMPLE,
    Operation.DROPOUT,
    Operation.CLAMP,
    Operation.WRITE,
    Operation.CROP,
    Operation.TRANSPOSE,
    Operation.MATRIX_TRANSPOSE,
    *RESHAPES,
    Operation.CLONE,
    Operation.FORM,
}
"""What leaves values as they are, or nearly so, and changes only their axes, size or type."""


def kind(node: fx.Node) -> Operation:
    """Return what kind of operation a node is."""
    return _kind_of_name(operation(node)) if node.op.startswith("call") else Operation.SOURCE


@functools.cache
def _kind_of_name(name: str) -> Operation:
    fitting = (found for found, pattern in _PATTERNS.items() if re.fullmatch(pattern, name, re.IGNORECASE))
    return next(fitting, Operation.OTHER)


def weighted(node: fx.Node) -> bool:
    """Whether a node is a layer that learns, or mixes channels as one."""
    return kind(node) in LEARNED


def only_pads(node: fx.Node, source: fx.Node) -> bool:
    """Whether a node that makes a map larger pads it: also a convolution that is given it, unless that is transposed.

    What a convolution is given may be no map, and have come up itself.
    """
    plain = re.fullmatch(r"conv[123]d", operation(node), re.IGNORECASE) and source in node.all_input_nodes
    return kind(node) is Operation.PAD or bool(plain)


def joins(node: fx.Node) -> bool:
    """Whether a node lays maps beside each other."""
    return kind(node) in JOINS
