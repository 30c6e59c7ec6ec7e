"""The stripped network is exported to ONNX as the bare one is. Needs onnx and onnxscript: run by .ci/zoo."""

import copy

import torch
from support.zoo import small_unet_2d

from lomix_search.instrumentation.instrumented import instrument


def exported(model, example):
    return torch.onnx.export(model.eval(), (example,), dynamo=True, verbose=False)


def test_the_stripped_model_gives_the_same_onnx_graph():
    model, example, _ = small_unet_2d()
    net = instrument(model, example).train()
    net(example)
    bare = type(model)()
    bare.load_state_dict(copy.deepcopy(model.state_dict()))
    graphs = [exported(m, example).model_proto.graph for m in (bare, net.strip())]
    assert len(graphs[0].node) > 10
    assert graphs[0].SerializeToString() == graphs[1].SerializeToString()
