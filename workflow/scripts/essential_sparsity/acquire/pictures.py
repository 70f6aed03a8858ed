"""Images as a viewer shows them: orientation, depth and transparency as Pillow reads them, refused where it would guess."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from essential_sparsity.acquire.archives import SourceError

BITS, WHITE_IS = 258, 262  # of a TIFF: bits of a grey value, whether 0 is white
DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # grey values 0…65535
DEPTH = 24  # place of the byte of a PNG that says the bits of a grey value, or of a part of a colour
PLAIN = ("1", "L", "P", "RGB", "LA", "PA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")  # what `convert` shows in RGB
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no EPS: Pillow starts a program for it
ENDS = {"GIF": b"\0;", "JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # what a whole file ends with
LAST = 64  # bytes at the end of a file that hold it, where nothing is appended
SEVERAL = ("GIF", "PNG", "TIFF", "WEBP", "AVIF")  # formats of one picture, or of several frames or pages


def opened(encoded: bytes, name: str) -> Image.Image:
    """The image of these bytes, its header checked, not decoded. Raises SourceError, by the name, for what has no one look."""
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        frames = getattr(image, "n_frames", 1) if image.format in SEVERAL else 1
    except (UnidentifiedImageError, OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        why = f"no image of {', '.join(FORMATS)}, or cut short" if isinstance(error, UnidentifiedImageError) else error
        raise SourceError(f"{name} cannot be decoded ({why}). Save it again, or take it out.") from error
    if frames > 1:
        raise SourceError(
            f"{name} holds {frames} frames or pages ({image.format}); expected one picture. Save one of them."
        )
    if image.mode not in (*DEEP, *PLAIN) and not _deep(image):
        raise SourceError(
            f"{name} has pixels of the kind {image.mode!r}, whose black and white are nowhere said. Save it with 8 or 16 bits."
        )
    return image


def check(encoded: bytes, name: str) -> None:
    """Refuse an image that has no one look, or is cut short: decoded are those alone that do not end as their format does, and those
    of formats without an end. SourceError."""
    end = ENDS.get(opened(encoded, name).format)
    if end is None or end not in encoded[-LAST:]:
        decoded(encoded, name)


def decoded(encoded: bytes, name: str) -> Image.Image:
    """RGB, 8 bits: turned as its EXIF orientation says (as the Image feature of `datasets`), the largest grey value of its bits as
    white (in a TIFF that says so, as black), transparent parts on white. Raises SourceError."""
    image = opened(encoded, name)
    tags = image.tag_v2 if image.format == "TIFF" else {}
    try:
        image.load()
        if image.format == "PNG" and image.mode in ("L", "RGB") and "transparency" in image.info:
            image.info["transparency"] = _of_eight_bits(image.info["transparency"], encoded[DEPTH])
        deep = _deep(image)
        image = ImageOps.exif_transpose(image)
        if deep:
            image = _shallow(image, tags)
        elif image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SourceError(f"{name} cannot be decoded ({error}). Save it again, or take it out.") from error


def _deep(image: Image.Image) -> bool:
    """Whether it has grey values 0…65535, as Pillow makes those of a PGM of more than 8 bits, too."""
    return image.mode in DEEP or (image.mode == "I" and image.format == "PPM")


def _of_eight_bits(clear: int | tuple[int, ...], bits: int) -> int | tuple[int, ...]:
    """The value that is transparent, as Pillow shows a picture's other values; it leaves this one as it stands in the file."""
    if isinstance(clear, tuple):
        return tuple(_of_eight_bits(part, bits) for part in clear)
    return clear >> 8 if bits == 16 else clear * 255 // (2**bits - 1)


def _shallow(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """8 bits of a deep grey image; `tags`: of a TIFF. Pillow leaves 12 bits small, a TIFF's 0 black where it is white, and what is
    transparent as it is."""
    values, bits = np.asarray(image).astype(np.float64), tags.get(BITS, (16,))[0]
    white = 2**bits - 1
    grey = white - values if tags.get(WHITE_IS) == 0 else values
    if (clear := image.info.get("transparency")) is not None:
        grey = np.where(values == clear, white, grey)
    return Image.fromarray(np.rint(grey * (255 / white)).astype(np.uint8))
