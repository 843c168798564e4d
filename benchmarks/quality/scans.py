"""Make scans of PDFs: pages as images, without a text layer."""

from __future__ import annotations

import io
import time

import numpy as np
import pypdfium2
from PIL import Image

DPI = 150
_LONG_AGO = time.struct_time((2024, 1, 1, 0, 0, 0, 0, 1, 0))
_PAPER = 246


def scan_of(pdf: bytes, *, noisy: bool, seed: int = 0) -> bytes:
    """A PDF with one grey JPEG for each page; a noisy one is turned, uneven and speckled."""
    pages = [
        worn(page, seed + number) if noisy else page for number, page in enumerate(images_of(pdf))
    ]
    out = io.BytesIO()
    pages[0].save(
        out,
        "PDF",
        save_all=True,
        append_images=pages[1:],
        resolution=DPI,
        quality=60 if noisy else 85,
        creationDate=_LONG_AGO,
        modDate=_LONG_AGO,
    )
    return out.getvalue()


def images_of(pdf: bytes) -> list[Image.Image]:
    """The pages in grey at 150 dpi."""
    with pypdfium2.PdfDocument(pdf) as document:
        return [page.render(scale=DPI / 72).to_pil().convert("L") for page in document]


def worn(image: Image.Image, seed: int) -> Image.Image:
    """Turned by up to half a degree, darker towards one edge, with grain and specks."""
    grain = np.random.default_rng(seed)
    turned = image.rotate(float(grain.uniform(-0.5, 0.5)), Image.Resampling.BICUBIC, fillcolor=255)
    pixels = np.asarray(turned, dtype=np.float32) * (_PAPER / 255)
    pixels -= np.linspace(0, 18, pixels.shape[1], dtype=np.float32)[None, :]
    pixels += grain.normal(0, 6, pixels.shape).astype(np.float32)
    specks = grain.integers(0, pixels.size, 500)
    pixels.reshape(-1)[specks] -= grain.integers(40, 140, specks.size)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
