# preload: import PIL.Image
import io

import PIL.Image

file = io.BytesIO()
PIL.Image.new("RGB", (8, 8), "red").resize((4, 4)).save(file, "png")
print(PIL.Image.open(file).getpixel((0, 0)))
