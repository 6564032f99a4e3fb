"""Writes what torchvision and Pillow make of images, for the tests of augmentation and of folders of pictures.

Run with `python make_golden.py`; needs torch, torchvision and Pillow (written with torchvision 0.29 and Pillow 13.0).

- augmentation.txt: a line for every operation on first_test_image.bin: its name, its arguments, and the MD5 of the
  resulting image, (3, 32, 32). The tests expect the same bytes.
- pictures/NAME.EXT: small pictures; pictures/NAME.rgb: what `Resize(16)` and `CenterCrop(16)` make of them, (3, 16, 16).
  The tests expect the same bytes, for JPEG up to the difference of two decoders.
"""

import hashlib
import pathlib

import numpy as np
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from torchvision.transforms.autoaugment import RandAugment, _apply_op

HERE = pathlib.Path(__file__).parent
NEAREST = InterpolationMode.NEAREST


def planes(image):
    return np.asarray(image).transpose(2, 0, 1).tobytes()


def augmentation():
    cat = np.frombuffer((HERE / "first_test_image.bin").read_bytes(), dtype=np.uint8).reshape(3, 32, 32)
    cat = Image.fromarray(np.ascontiguousarray(cat.transpose(1, 2, 0)))
    lines = []

    def line(name, arguments, image):
        digest = hashlib.md5(planes(image)).hexdigest()
        lines.append(" ".join([name, *(repr(float(value)) for value in arguments), digest]))

    space = RandAugment()._augmentation_space(31, (32, 32))
    for name, (magnitudes, signed) in space.items():
        for index in [1, 9, 17, 30]:
            magnitude = float(magnitudes[index]) if magnitudes.ndim else 0.0
            for sign in [1, -1] if signed else [1]:
                image = _apply_op(cat, name, sign * magnitude, NEAREST, None)
                # The strength from 0 to 1, so that the ranges are tested as well.
                line(name, [index / 30, sign], image)
    for top, left in [(0, 0), (3, 8), (8, 4)]:
        line("crop", [4, top, left], F.crop(F.pad(cat, 4), top, left, 32, 32))
    line("flip", [], F.hflip(cat))
    line("vertical_flip", [], F.vflip(cat))
    for top, left, height, width in [(0, 0, 32, 32), (5, 9, 20, 14), (31, 0, 1, 32), (10, 3, 9, 25)]:
        image = F.resized_crop(cat, top, left, height, width, [32, 32], InterpolationMode.BILINEAR)
        line("resized_crop", [top, left, height, width], image)
    (HERE / "augmentation.txt").write_text("\n".join(lines) + "\n")


def pictures():
    folder = HERE / "pictures"
    folder.mkdir(exist_ok=True)

    def pattern(width, height, channels):
        y, x = np.mgrid[0:height, 0:width]
        waves = [128 + 100 * np.sin(x / (3 + c) + y / (5 + 2 * c) + c) for c in range(channels)]
        return np.stack(waves, -1).round().clip(0, 255).astype(np.uint8)

    def write(name, image, expected=None, **options):
        image.save(folder / name, **options)
        # Pillow's own convert("RGB"), after EXIF rotation.
        read = ImageOps.exif_transpose(Image.open(folder / name)).convert("RGB") if expected is None else expected
        read = F.center_crop(F.resize(read, 16, InterpolationMode.BILINEAR), 16)
        (folder / name).with_suffix(".rgb").write_bytes(planes(read))

    write("wide.png", Image.fromarray(pattern(41, 23, 3)))
    write("tall.webp", Image.fromarray(pattern(19, 37, 3)), lossless=True)
    write("small.png", Image.fromarray(pattern(7, 9, 3)))
    write("gray.png", Image.fromarray(pattern(30, 21, 1)[:, :, 0]))
    write("alpha.png", Image.fromarray(pattern(20, 31, 4)))
    write("palette.png", Image.fromarray(pattern(25, 25, 3)).quantize(16))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    write("turned.jpg", Image.fromarray(pattern(37, 24, 3)), exif=exif, quality=95, subsampling=0)
    write("plain.jpg", Image.fromarray(pattern(24, 37, 3)), quality=95, subsampling=0)


augmentation()
pictures()
