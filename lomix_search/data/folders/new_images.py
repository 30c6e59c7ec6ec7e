"""Images without labels, whatever their form: what ``lomix predict`` is given."""

from collections.abc import Sequence
from pathlib import Path

from lomix_search.data.folders.preprocessed import new_preprocessed_images, preprocessed_home, read_preprocessed_image
from lomix_search.data.readers.image import RawImage, find_images, read_image, stem_of
from lomix_search.data.readers.preprocessed_file import is_preprocessed_file
from lomix_search.data.readers.unread import kinds_there, unread_images
from lomix_search.errors import DataError


def find_new_images(source: Path, configuration: str = "") -> dict[str, tuple[Path, ...]]:
    """Find all images of a folder, or take a single file.

    Args:
        source: A folder of any form that training reads, nnU-Net's preprocessed one too; or an image.
        configuration: Of a preprocessed data set, the folder that is read if it is there.

    Returns:
        The files of each image by its name, sorted: what :func:`read_new_image` takes.

    Raises:
        DataError: no such file, or no image in the folder.
    """
    if source.is_dir():
        return new_preprocessed_images(source, configuration) or find_images(source)
    if not source.exists():
        raise DataError(f"{source} does not exist.", hint="lomix predict RUN IMAGES OUT")
    name = source.stem if is_preprocessed_file(source) else stem_of(source)
    return {name: (source,)}


def left_out(source: Path) -> str:
    """Say which images, by their endings, a folder holds that are not read here; empty where there are none.

    Args:
        source: As for :func:`find_new_images`.
    """
    if not source.is_dir() or preprocessed_home(source) is not None:
        return ""
    found = unread_images(source)
    return f"not read, by its kind: {'; '.join(kinds_there(found, source))}" if found else ""


def read_new_image(files: Sequence[Path]) -> RawImage:
    """Read one image.

    Args:
        files: Its files, as :func:`find_new_images` returns them.

    Returns:
        The image.

    Raises:
        DataError: unreadable, or of a kind that is not read here.
    """
    return read_preprocessed_image(files[0]) if is_preprocessed_file(files[0]) else read_image(files)
