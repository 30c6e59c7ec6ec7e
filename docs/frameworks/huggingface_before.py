"""Hugging Face's Trainer, as its users write it for a network of their own."""

import tempfile

import task
import torch
from monai.losses import DiceCELoss
from transformers import PreTrainedConfig, PreTrainedModel, Trainer, TrainingArguments
from transformers.modeling_outputs import SemanticSegmenterOutput


class Segmentation(PreTrainedModel):
    """The network of the task behind the Trainer's interface."""

    config_class = PreTrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.net = task.network()
        self.post_init()

    def _init_weights(self, module):
        """Leave the network's own initial values."""

    def forward(self, pixel_values, labels=None):
        """Return logits; the Trainer computes the loss."""
        return SemanticSegmenterOutput(logits=self.net(pixel_values))


def collate(pairs):
    """Make a batch as the models of transformers take it."""
    images, labels = zip(*pairs, strict=True)
    return {"pixel_values": torch.stack(images), "labels": torch.stack(labels)}


def compute_loss(outputs, labels, num_items_in_batch=None):
    """Return the loss of a batch."""
    return dice_ce(outputs.logits, labels[:, None])


model = Segmentation(PreTrainedConfig(num_labels=task.CLASSES))
dice_ce = DiceCELoss(to_onehot_y=True, softmax=True)
arguments = TrainingArguments(
    output_dir=tempfile.mkdtemp(),
    max_steps=task.STEPS,
    per_device_train_batch_size=task.BATCH,
    dataloader_drop_last=True,
    learning_rate=1e-3,
    lr_scheduler_type="constant",
    weight_decay=0.01,
    seed=task.SEED,
    use_cpu=True,
    save_strategy="no",
    report_to=[],
    disable_tqdm=True,
)
trainer = Trainer(
    model=model,
    args=arguments,
    train_dataset=task.train_set(),
    data_collator=collate,
    compute_loss_func=compute_loss,
)
trainer.train()
task.report(model.net)
