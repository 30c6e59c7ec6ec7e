"""What every room uses and none owns: typed files, processes, the terminal, progress, what ships with the package.

Values of Python and torch go in and come out; nothing here knows what a network, a mixture or a recipe is. Imports
``errors``.
"""
