"""The scheme "volume": label follows image, only asked axes are mirrored, sizes and draws are right."""

import numpy as np
import pytest
import torch

from lomix_search.data.augment import Volume, volume_augmentation
from lomix_search.data.seeding import Seeded
from lomix_search.errors import RecipeError

SIZE = (12, 20, 16)


def given(scheme: Volume, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth block, as large as the scheme takes it, whose label is where it is bright."""
    shape = [n + 2 * more for n, more in zip(scheme.size, scheme.margin, strict=True)]
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    image = 2.0 - (axes[0] - 0.2) ** 2 - (axes[1] + 0.3) ** 2 - (axes[2] - 0.1) ** 2
    return image[None], (image > 1.6).long()


def without_noise(scheme: Volume) -> Volume:
    return Volume(scheme.size, scheme.margin, scheme.flips, scheme.affine, ())


def test_labels_go_where_their_image_goes() -> None:
    scheme = without_noise(volume_augmentation(SIZE, ("rows",)))
    turned = 0
    for seed in range(12):
        np.random.seed(seed)
        image, label = scheme(*given(scheme))
        assert image.shape == (1, *SIZE) and label.shape == SIZE and label.dtype == torch.int64
        assert ((image[0] > 1.6) == (label == 1)).float().mean() > 0.95
        turned += int(not torch.equal(image, scheme._middle(given(scheme)[0])))
    assert turned > 4


@pytest.mark.parametrize("flip", [(), ("columns",), ("slices", "rows")])
def test_only_asked_axes_are_mirrored(flip: tuple[str, ...]) -> None:
    scheme = without_noise(volume_augmentation(SIZE, flip))
    scheme.affine.prob = 0.0
    plain, seen = scheme._middle(given(scheme)[0])[0], set()
    mirrors = {(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)}
    for seed in range(40):
        np.random.seed(seed)
        image = scheme(*given(scheme))[0][0]
        seen |= {m for m in mirrors if torch.equal(image, plain.flip([i for i in range(3) if m[i]]))}
    names = ("slices", "rows", "columns")
    assert seen == {m for m in mirrors if all(names[i] in flip for i in range(3) if m[i])}


def test_slices_far_apart_are_turned_within_themselves_only() -> None:
    scheme = without_noise(volume_augmentation(SIZE, flat=0))
    assert scheme.margin[0] == 0
    scheme.affine.prob = 1.0
    image = torch.arange(12.0)[:, None, None].expand(
        12, *(n + 2 * m for n, m in zip(SIZE[1:], scheme.margin[1:], strict=True))
    )[None]
    np.random.seed(0)
    moved, _ = scheme(image, torch.zeros(image.shape[1:], dtype=torch.long))
    middle = moved[0, :, 6:-6, 5:-5]
    assert torch.allclose(middle, torch.arange(12.0)[:, None, None].expand_as(middle), atol=1e-4)


def test_several_masks_are_moved_alike() -> None:
    scheme = volume_augmentation(SIZE)
    scheme.affine.prob = 1.0
    image, label = given(scheme)
    np.random.seed(1)
    _, alone = scheme(image, label)
    np.random.seed(1)
    _, masks = scheme(image, torch.stack([label, 1 - label]))
    assert torch.equal(masks[0], alone) and masks.shape == (2, *SIZE)


def test_draws_repeat() -> None:
    class One(torch.utils.data.Dataset):
        scheme = volume_augmentation(SIZE, ("slices",))

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            return self.scheme(*given(self.scheme))

    items = Seeded(One(), 0)
    assert all(torch.equal(items[(d, 0)][0], items[(d, 0)][0]) for d in range(8))
    assert len({items[(d, 0)][0].numpy().tobytes() for d in range(8)}) > 3


def test_an_axis_that_is_none_is_refused() -> None:
    with pytest.raises(RecipeError, match='data.flip: no axis "row"'):
        volume_augmentation(SIZE, ("row",))
