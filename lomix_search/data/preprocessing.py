"""What another program did to images before they came here, so that only their like is mixed with them."""

from lomix_search.utils.schema import Frozen


class Preprocessing(Frozen):
    """How nnU-Net preprocessed images: one configuration of its plans.

    Args:
        folder: What the plans call its folder: ``nnUNetPlans_3d_fullres``.
        configuration: Its name: ``3d_fullres``; empty where the plans do not know the folder.
        spacing: Millimetres between slices, rows and columns that images were resampled to; rows and columns alone of a
            configuration of slices; empty where the plans do not say it. Axes are as nnU-Net has turned them.
        normalization: How each channel was scaled, by nnU-Net's names.
        statistics: 0.5 and 99.5 percentile, mean and deviation of each channel that was scaled by those of the set
            (CT); empty for the others.
        transpose: nnU-Net's ``transpose_forward``: which axis of the raw image each axis is.
        channels: Names of the channels.
    """

    folder: str
    configuration: str = ""
    spacing: tuple[float, ...] = ()
    normalization: tuple[str, ...] = ()
    statistics: tuple[tuple[float, ...], ...] = ()
    transpose: tuple[int, ...] = ()
    channels: tuple[str, ...] = ()

    @property
    def slices(self) -> bool:
        """Whether it is a configuration for slices rather than volumes."""
        return len(self.spacing) == 2 or self.configuration.startswith("2d")

    def differences(self, other: "Preprocessing") -> list[str]:
        """Name what was done otherwise, one line each; the names of folders and configurations do not matter."""
        return [
            f"{name}: {getattr(self, name) or 'not known'}, and {getattr(other, name) or 'not known'} here"
            for name in ("spacing", "normalization", "statistics", "transpose", "channels")
            if getattr(self, name) != getattr(other, name)
        ]
