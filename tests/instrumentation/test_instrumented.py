import copy
import pickle

import pytest
import torch
from support.zoo import FAST, SmallUNet, module_outputs, small_unet_2d
from torch.nn import functional as F

from lomix_search.errors import StageError
from lomix_search.instrumentation.instrumented import instrument
from lomix_search.mixture.loss import MixtureLoss


def quick(name):
    return name in ("small-2d", "small-3d", "unet-2d", "dynunet-ds-2d")


@pytest.fixture(params=[pytest.param(name, marks=[] if quick(name) else pytest.mark.slow) for name in FAST])
def case(request):
    torch.manual_seed(0)
    return FAST[request.param]()


def test_stages_are_those_that_an_expert_names(case):
    model, example, names = case
    model.eval()
    net = instrument(model, example)
    expected = module_outputs(model, names, example)
    found = net.stage_features(example)
    assert len(found) == len(net.stages) == len(names)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_eval_output_and_state_are_untouched(case):
    model, example, _ = case
    keys, weights = list(model.state_dict()), copy.deepcopy(model.state_dict())
    model.eval()
    before = model(example)
    model.train()
    torch.manual_seed(7)
    random_state = torch.get_rng_state()
    net = instrument(model, example)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert net.training
    assert all(module.training for module in model.modules())
    assert list(model.state_dict()) == keys
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), weights.values(), strict=True))
    net.eval()
    assert same(net(example), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    net.train()
    assert net.strip() is model
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    model.eval()
    assert same(model(example), before)


def test_train_mode_gives_logits_coarse_to_fine_and_gradients_everywhere(case):
    model, example, names = case
    net = instrument(model, example, num_classes=3).train()
    maps = net(example)
    assert len(maps) == len(names)
    assert all(m.shape[:2] == (len(example), 3) for m in maps)
    assert [m[0, 0].numel() for m in maps] == sorted(m[0, 0].numel() for m in maps)
    assert maps[-1].shape[2:] == example.shape[2:]
    sum(m.float().logsumexp(1).mean() for m in maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.head_parameters())


def test_own_supervision_is_used_as_it_is():
    model, example, _ = FAST["dynunet-ds-2d"]()
    net = instrument(model, example)
    assert len(list(net.head_parameters())) == 0
    torch.manual_seed(1)
    maps = net(example)
    stacked = model(example)
    assert [torch.equal(m, stacked[:, i]) for i, m in zip((2, 1, 0), maps, strict=True)] == [True] * 3


def test_logits_with_their_channels_last_come_as_all_others():
    class Last(SmallUNet):
        def forward(self, x):
            return {"logits": super().forward(x).permute(0, 2, 3, 1).contiguous()}

    torch.manual_seed(0)
    model, example = Last(), torch.rand(2, 1, 32, 24)
    model.dropout.p = 0.0
    net = instrument(model, example).train()
    maps = net(example)
    assert net.num_classes == 3
    assert [m.shape for m in maps] == [(2, 3, 16, 12), (2, 3, 32, 24)]
    torch.testing.assert_close(maps[-1].permute(0, 2, 3, 1), net.strip()(example)["logits"])


@pytest.mark.parametrize("activation", ["", "Sigmoid"])
def test_logits_of_one_class_may_come_without_an_axis_of_classes(activation):
    class Squeezed(SmallUNet):
        def __init__(self):
            super().__init__(classes=1)
            self.ahead = torch.nn.Sequential(torch.nn.Flatten(0, 1), *[torch.nn.Sigmoid()] * bool(activation))

        def forward(self, x):
            return self.ahead(super().forward(x))

    torch.manual_seed(0)
    model, example = Squeezed(), torch.rand(2, 1, 32, 24)
    model.dropout.p = 0.0
    net = instrument(model, example).train()
    maps = net(example)
    assert net.num_classes == 1 and net.stages[-1].name == "up.1"
    assert [m.shape for m in maps] == [(2, 1, 16, 12), (2, 1, 32, 24)]
    assert MixtureLoss("lomix", 2, 1)(maps, torch.ones(2, 32, 24).long()).isfinite()
    ended = maps[-1].sigmoid() if activation else maps[-1]
    torch.testing.assert_close(net.strip()(example), ended[:, 0])


class Level(torch.nn.Sequential):
    """In train mode it returns something besides its map."""

    def forward(self, x):
        y = super().forward(x)
        return (y.mean(), y) if self.training else y


class OtherInTrainMode(SmallUNet):
    """Its stages and its logits are at other places in train mode."""

    def __init__(self):
        super().__init__()
        self.up = torch.nn.ModuleList(Level(up) for up in self.up)

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        skips, means = [], []
        for i, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        x = self.dropout(skips.pop())
        for up in self.up:
            mean, x = up(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
            means.append(mean)
        return torch.stack(means), x[:, :3], self.head(x)


def test_stages_and_logits_that_train_mode_returns_elsewhere():
    torch.manual_seed(0)
    model, example = OtherInTrainMode(), torch.rand(2, 1, 32, 24)
    model.dropout.p = 0.0
    net = instrument(model, example).train()
    maps = net(example)
    assert [m.shape for m in maps] == [(2, 3, 16, 12), (2, 3, 32, 24)]
    torch.testing.assert_close(maps[-1], net.model(example)[2])
    assert [stage.name for stage in net.stages] == ["up.0.0", "up.1.0"]


def test_a_stage_that_train_mode_lays_elsewhere_is_missed_with_a_clear_error():
    class Pair(torch.nn.Module):
        """Its only map is the one of a tuple in train mode."""

        def forward(self, x):
            return (F.relu(x), x.mean()) if self.training else F.relu(x)

    class Paired(SmallUNet):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            skips = []
            for i, down in enumerate(self.down):
                x = down(self.pool(x) if i else x)
                skips.append(x)
            x = skips.pop()
            for up in self.up:
                x = self.pair(up(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1)))
                x = x[0] if self.training else x
            return self.head(x), x.mean()

    net = instrument(Paired(), torch.rand(2, 1, 32, 24), stages=["pair", "up.1"]).train()
    with pytest.raises(StageError, match=r'stage "pair" of Paired was not reached in this forward pass'):
        net(torch.rand(2, 1, 32, 24))


def test_functions_set_on_modules_are_followed_and_leave_no_mark():
    def without_context(layer):
        before = layer.forward
        layer.forward = lambda *args, context=None: before(*args)

    torch.manual_seed(0)
    model, example = SmallUNet(), torch.rand(2, 1, 32, 24)
    model.dropout = torch.nn.Sequential(torch.nn.BatchNorm2d(16), model.dropout)
    for layer in (*model.up, model.dropout):
        without_context(layer)
    before = copy.deepcopy(model.state_dict())
    net = instrument(model, example)
    assert [stage.name for stage in net.stages] == ["up.0", "up.1"] and net.stages.backend == "fx"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [m.shape for m in net(example)] == [(2, 3, 16, 12), (2, 3, 32, 24)]


class Queries(SmallUNet):
    """Makes one map for each query, which it lays into the batch, as the mask head of DETR does."""

    def __init__(self, queries):
        super().__init__(classes=1)
        self.queries = torch.nn.Parameter(torch.randn(queries, 1, 1, 1))

    def forward(self, x):
        one_each = (x.unsqueeze(1) * self.queries).flatten(0, 1)
        return super().forward(one_each).view(len(x), len(self.queries), *x.shape[2:])


def test_maps_of_the_classes_may_lie_in_the_batch():
    torch.manual_seed(0)
    model, example = Queries(5), torch.rand(2, 1, 32, 24)
    model.dropout.p = 0.0
    net = instrument(model, example[:1]).train()
    maps = net(example)
    assert [m.shape for m in maps] == [(2, 5, 16, 12), (2, 5, 32, 24)]
    head, features = net.heads["0"], net.stage_features(example)[0]
    assert head.out_channels == 1 and features.shape[0] == 10
    torch.testing.assert_close(maps[0][1, 3], head(features)[8, 0])  # image 1, class 3


def test_maps_in_the_batch_that_are_no_classes_are_refused():
    class Summed(Queries):
        def forward(self, x):
            return super().forward(x).unflatten(1, (1, -1)).sum(2)

    with pytest.raises(StageError, match=r'stage "up.0" of Summed has 5 maps for each image; a head makes 1 classes'):
        instrument(Summed(5), torch.rand(1, 1, 32, 24))


def test_copies_and_pickles_work_and_are_independent():
    model, example, _ = small_unet_2d()
    net = instrument(model, example).train()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with torch.no_grad():
            other.model.up[0][0].weight.zero_()
        maps = other(example)
        assert [m.shape for m in maps] == [m.shape for m in net(example)]
        assert net._scope is not other._scope
        assert other.strip() is other.model
        assert len(net.stage_features(example)) == 2


def test_weights_go_in_both_directions():
    bare, example, _ = small_unet_2d()
    net = instrument(SmallUNet(), example)
    net.model.load_state_dict(bare.state_dict())
    assert torch.equal(net.eval()(example), bare.eval()(example))
    fresh = SmallUNet()
    fresh.load_state_dict(net.model.state_dict())
    assert torch.equal(fresh.eval()(example), bare(example))
    again = instrument(SmallUNet(), example)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(example), bare(example))


def test_parts_that_the_user_froze_stay_frozen():
    model, example, _ = small_unet_2d()
    model.train()
    model.down.eval()
    instrument(model, example).stage_features(example)
    assert not model.down.training
    assert model.up.training


def test_the_users_own_list_wins():
    model, example, _ = small_unet_2d()
    net = instrument(model, example, stages=["up.1", "in:up.0", "down.2"])
    assert [stage.name for stage in net.stages] == ["down.2", "in:up.0", "up.1"]
    assert net.stages[1].channels == 24


def test_heads_start_near_equal_probabilities():
    model, example, _ = small_unet_2d()
    logits = instrument(model, example).train()(example)[0]
    assert logits.std() < 0.5
    assert logits.std() > 0


def test_a_stripped_network_says_so():
    net = instrument(*small_unet_2d()[:2])
    net.strip()
    with pytest.raises(StageError) as caught:
        net(torch.zeros(1, 1, 32, 32))
    assert str(caught.value) == (
        "this instrumented SmallUNet was stripped; its hooks are gone.\n"
        "  Try:  net = lomix.instrument(model, example)  # or use the model that strip() returned"
    )


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("activation", [torch.nn.Softmax(1), torch.nn.Sigmoid(), torch.nn.LogSoftmax(1)])
def test_a_model_that_returns_probabilities_is_trained_on_its_logits(activation):
    model, example, _ = small_unet_2d()
    model.dropout.p = 0.0
    whole = torch.nn.Sequential(model, activation)
    net = instrument(whole, example)
    name = type(activation).__name__
    assert f"Sequential ends in {name}; in train mode the last map is what comes before it" in net.stages.notes
    assert torch.equal(net.train()(example)[-1], model(example))
    assert torch.equal(net.eval()(example), whole(example))


def test_a_model_that_drops_the_background_after_its_softmax():
    class Foreground(SmallUNet):
        def forward(self, x):
            return super().forward(x).softmax(1)[:, 1:]

    torch.manual_seed(0)
    model, example = Foreground(), torch.rand(2, 1, 32, 32)
    net = instrument(model, example).train()
    maps = net(example)
    assert net.num_classes == 3 and {m.shape[1] for m in maps} == {3} and net.eval()(example).shape[1] == 2
    assert "that has 3 channels, the background among them, and what Foreground returns 2" in net.stages.notes


def test_a_functional_softmax_is_seen_too():
    class Probabilities(SmallUNet):
        def forward(self, x):
            return torch.nn.functional.softmax(super().forward(x), 1)

    net = instrument(Probabilities(), torch.rand(2, 1, 32, 32)).train()
    assert net(torch.rand(2, 1, 32, 32))[-1].min() < 0


def test_inputs_by_name():
    class Conditioned(SmallUNet):
        def forward(self, image, *, shift):
            return super().forward(image + shift[:, None, None, None])

    example = {"image": torch.rand(2, 1, 32, 32), "shift": torch.rand(2)}
    net = instrument(Conditioned(), example).train()
    assert [stage.name for stage in net.stages] == ["up.0", "up.1"]
    assert len(net(**example)) == 2


def test_tokens_are_laid_on_the_grid_of_another_size():
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(1, 4, 4, 4), torch.nn.Conv2d(4, 8, 2, 2)
            self.rise, self.mix, self.head = (
                torch.nn.ConvTranspose2d(8, 4, 2, 2),
                torch.nn.Linear(8, 4),
                torch.nn.Linear(4, 3),
            )
            self.deep, self.grow = torch.nn.Conv2d(8, 8, 2, 2), torch.nn.ConvTranspose2d(8, 8, 2, 2)
            self.work = torch.nn.Linear(16, 8)

        def up(self, x, skip, rise, mix):
            x = torch.cat([rise(x), skip], 1)
            return mix(x.flatten(2).transpose(1, 2)).relu()

        def forward(self, x):
            a = self.first(x)
            b = self.second(a)
            t = self.up(self.deep(b), b, self.grow, self.work)
            t = self.up(t.transpose(1, 2).reshape(b.shape), a, self.rise, self.mix)
            return self.head(t).transpose(1, 2).reshape(len(x), 3, *a.shape[2:])

    net = instrument(Tokens(), torch.rand(1, 1, 32, 64)).train()
    assert [(stage.size, stage.channels) for stage in net.stages] == [((4, 8), 8), ((8, 16), 4)]
    assert [tuple(m.shape) for m in net(torch.rand(2, 1, 64, 128))] == [(2, 3, 8, 16), (2, 3, 16, 32)]
    with pytest.raises(StageError) as caught:
        net.stage_features(torch.rand(2, 1, 32, 32))
    assert str(caught.value) == (
        f'stage "{net.stages[1].name}" of Tokens: 64 positions do not fill a grid of the proportions 8 × 16.\n'
        f"  Seen: tapped at the {net.stages[1].source}\n"
        "  Try:  instrument again with an example of the proportions of this input"
    )
