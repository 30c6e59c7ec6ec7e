"""Hugging Face's Trainer, for a network of one's own, with LoMix."""

import tempfile

import task
import torch
from transformers import PreTrainedConfig, PreTrainedModel, Trainer, TrainingArguments
from transformers.modeling_outputs import SemanticSegmenterOutput

from lomix_search.integrations.huggingface import supervise


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


model = Segmentation(PreTrainedConfig(num_labels=task.CLASSES))
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
)
supervise(trainer)
trainer.train()
task.report(model.net)
