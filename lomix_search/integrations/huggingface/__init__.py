"""Hugging Face: one line after the Trainer trains its model by a mixture of its scales.

    trainer = Trainer(model=model, args=arguments, train_dataset=train, eval_dataset=val)
    lomix = supervise(trainer)
    trainer.train()

The Trainer keeps its own model, so evaluation, prediction and checkpoints are those of the stock model. LoMix is its
``compute_loss_func`` and a callback; the heads and the loss are trained by its optimizer and saved with it, in
``optimizer.pt``, so that ``resume_from_checkpoint`` goes on with them exactly.
"""

from lomix_search.integrations.huggingface.supervise import supervise
from lomix_search.integrations.huggingface.supervision import LoMixSupervision

__all__ = ["LoMixSupervision", "supervise"]
