"""Plug-ins for the frameworks that people train with: a network and their trainer go in, the same network comes out.

One module a framework, each behind an extra of its name, imported by nothing but the command line and by the framework
itself. They may import every package above; they add no behaviour of their own to the mixture, they only put it where
the framework expects a loss, a callback or a trainer, and they take it out again before a checkpoint is shipped.
"""
