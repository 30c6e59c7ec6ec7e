"""MONAI: the mixture as the loss of its engines and Bundles, and a handler that looks after it.

    net = lomix.instrument(unet, torch.zeros(1, 1, 128, 128))
    loss = lomix.MixtureLoss.for_network(net)
    optimizer = torch.optim.AdamW([{"params": net.parameters()}, *loss.parameter_groups()], lr=1e-3)
    SupervisedTrainer(network=net, loss_function=loss, optimizer=optimizer, train_handlers=[LoMixHandler(loss, net)], …)

``net`` serves SupervisedEvaluator too, where it returns what ``unet`` returns; checkpoints hold ``unet`` itself and
beside it the handler. A network that is not instrumented but returns maps of its own (DynUNet's deep supervision)
takes :class:`LoMixLoss` as its loss. In a Bundle each of these names is a ``_target_``.
"""

from lomix_search.integrations.monai.handler import LoMixHandler
from lomix_search.integrations.monai.loss import LoMixLoss

__all__ = ["LoMixHandler", "LoMixLoss"]
