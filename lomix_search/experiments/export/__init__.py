"""A finished run's network as one file that other programs run: ONNX, TorchScript or torch.export.

A run folder goes in; the file comes out, checked against the network itself, with a description beside it.
Imports the modules of ``experiments`` and what they import; ``export_network`` is the entrance.
"""
