"""Whole volumes block by block, and back on their own grid: one rule in validation and in evaluation."""

from pathlib import Path

import numpy as np
import torch
from support.volume_files import cases, prepared
from torch import Tensor, nn
from torch.utils.data import Subset

from lomix_search.data.kinds.prepared import PreparedSettings, load_prepared
from lomix_search.data.nested_datasets import window_of
from lomix_search.evaluation.inference import InferenceOptions, predict_case
from lomix_search.evaluation.score_items import score_items
from lomix_search.evaluation.windows import OVERLAP, windowed


class Bright(nn.Module):
    """Knows the classes by their brightness, and refuses blocks of any other size than the trained one."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size, self.steep = size, nn.Parameter(torch.tensor([0.0, 4.0, 8.0]))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2:] == self.size
        above = torch.tensor([0.0, 1.2, 2.85]).view(1, 3, 1, 1, 1)  # background is at -0.3, the classes are at 3 and 6
        return self.steep.view(1, 3, 1, 1, 1) * (images - above)


def test_blocks_make_the_whole_whatever_its_size() -> None:
    def own(images: Tensor) -> Tensor:
        assert images.shape[2:] == (4, 6, 8)
        return torch.cat([images, -images], 1)

    for shape in [(9, 13, 8), (3, 6, 20), (2, 2, 2)]:
        images = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0))
        found = windowed(own, (4, 6, 8))(images)
        torch.testing.assert_close(found, torch.cat([images, -images], 1), atol=1e-5, rtol=1e-5)


def test_a_window_is_known_through_wrappers(tmp_path: Path) -> None:
    out, _ = prepared(tmp_path)
    splits = load_prepared(PreparedSettings(root=str(out), classes=("one", "two"), size=(8, 16, 12)))
    assert window_of(Subset(splits.val, [0])) == (8, 16, 12) and window_of(splits.train) is None
    assert splits.val.example()[0].shape == (1, 8, 16, 12)


def test_validation_and_evaluation_score_alike_on_the_cases_own_grid(tmp_path: Path) -> None:
    """Spacings differ between the cases, so that predictions come back to grids that training does not see."""
    given = cases(8, (2.0, 1.0, 1.0)) + [
        type(c)(f"d{i}", c.image, c.label, (1.0, 0.5, 1.0)) for i, c in enumerate(cases(4, shape=(16, 20, 12)))
    ]
    out, manifest = prepared(tmp_path, given)
    assert manifest.preparation.spacing == (2, 1, 1)
    splits = load_prepared(PreparedSettings(root=str(out), classes=("one", "two"), size=(4, 8, 8), test_fraction=0.4))
    network = Bright((4, 8, 8)).eval()
    found = score_items(network, splits.test, splits.classes)
    how = InferenceOptions(window=(4, 8, 8), overlap=OVERLAP)
    by_case = {}
    for case in splits.volumes["test"]:
        prediction = predict_case(network, case, how)
        assert prediction.label.shape == case.label.shape
        masks = [(prediction.label == c, case.label == c) for c in (1, 2)]
        by_case[case.name] = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in masks]
    assert any(name.startswith("d") for name in by_case)
    mean = np.mean(list(by_case.values()), 0)
    np.testing.assert_allclose([found.per_class["one"], found.per_class["two"]], mean, atol=1e-6)
    assert mean.min() > 0.5


def test_foreground_comes_back_on_the_same_grid(tmp_path: Path) -> None:
    out, _ = prepared(tmp_path, cases(6, (2.0, 1.0, 1.0)), spacing=(1.0, 1.0, 1.0))
    splits = load_prepared(PreparedSettings(root=str(out), classes=("one", "two"), size=(4, 8, 8)))
    case = splits.volumes["val"][0]
    assert case.small.shape[0] == 2 * case.image.shape[0]
    found = predict_case(
        Bright((4, 8, 8)).eval(), case, InferenceOptions(window=(4, 8, 8), flips=True), foreground=True
    )
    assert found.foreground is not None and found.foreground.shape == case.label.shape == found.label.shape
