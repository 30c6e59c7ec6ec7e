"""nnU-Net v2: trainers whose names say how to mix. A name goes in, a trainer comes out that nnU-Net finds and runs.

``lomix nnunet path`` prints the value of ``nnUNet_extTrainer``: the folders it names already, and ours. A trainer adds
a loss to nnU-Net's own; plans, network, augmentation, optimizer and schedule stay, and a checkpoint is one that nnU-Net
loads without this library.
"""
