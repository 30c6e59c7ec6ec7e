"""What modules are alike: of one class or build, in one place of the network. Their names do not matter."""

from torch import nn

_LISTS = (nn.ModuleList, nn.ModuleDict)
_HOLDERS = (*_LISTS, nn.Sequential)


def kinds_of(network: nn.Module) -> dict[str, str]:
    """Say of what kind each module is: modules of one kind do the same work, on several levels of the network.

    The kind of a module is told by what it is made of and by where it stands: by its class (of a sequence: by the
    classes in it), with kernel and stride of a layer, after the kinds of the modules around it. What stands in one list
    or sequence is of one kind, and two lists of one module are not. ``nn.Identity``, and a sequence around a single
    module, change nothing. Renaming changes nothing either.

    Args:
        network: Any module.

    Returns:
        A word for each module's path; "" for the network itself.
    """
    found = {"": ""}
    for path, module in network.named_modules():
        children = list(module.named_children())
        working = [child for _, child in children if type(child) is not nn.Identity]
        for place, (name, child) in enumerate(children):
            label = _label(module, child, place, len(working))
            found.setdefault(f"{path}.{name}" if path else name, ".".join(filter(None, (found[path], label))))
    return found


def _label(parent: nn.Module, child: nn.Module, place: int, peers: int) -> str:
    if isinstance(parent, _HOLDERS):
        return "" if peers == 1 and type(parent) is nn.Sequential else "#"
    return f"{_kind(child)}@{place}" if isinstance(child, _LISTS) and type(child) in _LISTS else _kind(child)


def _kind(module: nn.Module) -> str:
    """Say what a module is by itself."""
    name = type(module).__qualname__
    if type(module) is nn.Sequential:
        inner = [_kind(child) for child in module if type(child) is not nn.Identity]
        return inner[0] if len(inner) == 1 else f"{name}({', '.join(inner)})"
    form = (getattr(module, "kernel_size", None), getattr(module, "stride", None))
    return name if form[0] is None or any(True for _ in module.children()) else f"{name}{form}"
