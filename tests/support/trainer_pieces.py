"""Small pieces of a training with Hugging Face's Trainer: labelled squares, a UperNet, a U-Net with logits at 1/4."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    ConvNextConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)
from transformers.modeling_outputs import SemanticSegmenterOutput

IGNORED = 255


def upernet() -> UperNetForSemanticSegmentation:
    torch.manual_seed(1)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ConvNextConfig(num_channels=1, depths=[1] * 4, hidden_sizes=[8, 16, 16, 16], out_features=stages)
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=16, num_labels=3, use_auxiliary_head=False, pool_scales=(1, 2)
    )
    return UperNetForSemanticSegmentation(config)


class QuarterConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    model_type = "quarter-unet"


class QuarterUNet(PreTrainedModel):  # type: ignore[misc]
    """Two decoder stages at 1/8 and 1/4 of the image, where its logits stay; no layer sees other items."""

    config_class = QuarterConfig
    main_input_name = "pixel_values"

    def __init__(self, config: QuarterConfig) -> None:
        super().__init__(config)

        def block(before: int, after: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.GELU())

        self.stem = nn.Conv2d(1, 8, 4, 4)
        self.down1, self.down2 = block(8, 8), block(8, 8)
        self.up1, self.up2 = block(16, 8), block(16, 8)
        self.bottleneck, self.classifier = block(8, 8), nn.Conv2d(8, config.num_labels, 1)
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> SemanticSegmenterOutput:
        fine = self.stem(pixel_values)
        middle = self.down1(F.max_pool2d(fine, 2))
        coarse = self.bottleneck(self.down2(F.max_pool2d(middle, 2)))
        up = self.up1(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], 1))
        logits = self.classifier(self.up2(torch.cat([F.interpolate(up, scale_factor=2.0), fine], 1)))
        loss = None
        if labels is not None:
            large = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear")
            loss = F.cross_entropy(large, labels, ignore_index=IGNORED)
        return SemanticSegmenterOutput(loss=loss, logits=logits)


def quarter() -> QuarterUNet:
    torch.manual_seed(1)
    return QuarterUNet(QuarterConfig(num_labels=3))


def items(count: int = 8) -> list[dict[str, Tensor]]:
    """Images (1, 64, 64) and class numbers (64, 64), whose upper rows have no label."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, 64, 64, generator=generator)
    labels = (3 * F.avg_pool2d(images, 5, 1, 2)).clamp(0, 2).round().long()[:, 0]
    labels[:, :8] = IGNORED
    return [{"pixel_values": image, "labels": label} for image, label in zip(images, labels, strict=True)]


def arguments(folder: Path, **changed: Any) -> TrainingArguments:
    given: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 4,
        "max_steps": 4,
        "save_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "report_to": [],
        "disable_tqdm": True,
    }
    return TrainingArguments(**(given | changed))


def trainer_of(model: PreTrainedModel, folder: Path, kind: type[Trainer] = Trainer, **changed: Any) -> Trainer:
    named = {name: changed.pop(name) for name in ("optimizers", "callbacks", "compute_loss_func") if name in changed}
    args = arguments(folder, **changed)
    return kind(model=model, args=args, train_dataset=items(), eval_dataset=items(4), **named)
