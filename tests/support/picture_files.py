"""Small picture files of every kind, and the disc and the noise that they show."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DISC = (np.hypot(*np.ogrid[-20:20, -24:24]) < 12).astype(np.uint8)


def tiff(
    path: Path, values: NDArray[Any], photometric: int = 1, order: str = "<", bits: int = 0, extra: int = 0
) -> Path:
    """Write a bare TIFF by its specification: strips of rows, no compression."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    rows, columns, samples = (*values.shape, 1)[:3]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    size = 8 * values.dtype.itemsize
    tags = [(256, 4, columns), (257, 4, rows), (258, 3, bits or size), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 0), (277, 3, samples), (278, 4, rows), (279, 4, len(data)), (339, 3, kind)]
    where = 8 + 2 + 12 * len(tags) + 4
    body = struct.pack(order + ("2sHI"), b"II" if order == "<" else b"MM", 42, 8) + struct.pack(order + "H", len(tags))
    for tag, form, value in tags:
        value = where + 16 if tag == 273 else value
        if tag in (258, 339) and samples > 1:  # one number a sample does not fit: point behind the tags
            body += struct.pack(order + "HHII", tag, 3, samples, where + (0 if tag == 258 else 8))
            continue
        packed = struct.pack(order + ("H2x" if form == 3 else "I"), value)
        body += struct.pack(order + "HHI", tag, form, 1) + packed
    numbers = struct.pack(order + "4H", *[bits or size] * 4) + struct.pack(order + "4H", *[kind] * 4)
    path.write_bytes(body + struct.pack(order + "I", 0) + numbers + data)
    return path


def palette(path: Path, index: NDArray[np.uint8], colours: list[tuple[int, int, int]], **options: Any) -> Path:
    image = Image.fromarray(index, "L").convert("L")
    image = Image.frombytes("P", image.size, index.tobytes())
    image.putpalette([c for colour in colours for c in colour])
    image.save(path, **options)
    return path


def rgb(*channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack(channels, -1).astype(np.uint8)


def png(path: Path, values: NDArray[Any], bits: int, colour: int) -> Path:
    """Write a bare PNG by its specification: numbers of any depth, no filter."""
    if bits < 8:
        rows = [np.packbits(np.unpackbits(r[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for r in values]
    else:
        rows = [r.astype(f">u{bits // 8}").tobytes() for r in values]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + r for r in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))
    return path


def save(path: Path, values: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


def noise(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, DISC.shape, np.uint8)


ZERO = np.zeros_like(DISC)
PICTURE = noise(1)
COLOURS = rgb(noise(2), noise(3), noise(4))
