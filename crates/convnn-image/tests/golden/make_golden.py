"""Writes the pictures of this folder and what Pillow makes of them: python make_golden.py (Pillow 13.0).

NAME.rgb holds the first frame of NAME.EXT as rows of interleaved RGB, after `ImageOps.exif_transpose` and `convert("RGB")`.
"""
import numpy as np
from PIL import Image, ImageOps

y, x = np.mgrid[:12, :16]
rgb = np.stack([16 * x, 20 * y, 255 - 8 * (x + y)], 2).astype(np.uint8)
picture = Image.fromarray(rgb)
other = Image.fromarray(255 - rgb)

picture.convert("CMYK").save("cmyk.jpg", quality=95)
picture.save("animated.webp", save_all=True, append_images=[other], lossless=True, duration=100)
picture.save("animated.png", save_all=True, append_images=[other], duration=100)
Image.fromarray(257 * rgb[:, :, 0].astype(np.uint16)).save("deep.png")

for name in ["cmyk.jpg", "animated.webp", "animated.png"]:
    image = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
    open(name.replace(".", "_") + ".rgb", "wb").write(image.tobytes())
gray = rgb[:, :, :1].repeat(3, 2)
open("deep_png.rgb", "wb").write(gray.tobytes())
