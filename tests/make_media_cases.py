"""Makes pictures and sounds of kinds that people have, with their right values by Pillow and libsndfile.

    python tests/make_media_cases.py tests/fixtures/media-cases

Beside X (but for large ones) lies X.expected.png (upright, RGB, transparency on white), and sounds.json with the samples of a channel, the rate
and the mean of the first and last frames of every sound.
"""
import io, json, struct, sys, zlib
from pathlib import Path
import numpy as np
import soundfile
from PIL import Image, ImageOps

out = Path(sys.argv[1])
W, H = 48, 32
y, x = np.mgrid[0:H, 0:W]
RGB = np.stack([5 * x, 7 * y, 255 - 2 * x - 3 * y], -1).astype(np.uint8)
rgb = Image.fromarray(RGB)


def expected(name):
    picture = ImageOps.exif_transpose(Image.open(out / name))
    if picture.mode in ("I;16", "I"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    picture.convert("RGB").save(out / f"{name}.expected.png", optimize=True)


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png_of(depth, colour, rows, interlaced=False, before=b"", after=b""):
    header = struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, int(interlaced))
    data = zlib.compress(rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


def rows(array):
    """Scanlines of filter 0 of big-endian samples."""
    return b"".join(b"\0" + line.tobytes() for line in array.reshape(array.shape[0], -1))


def adam7(array):
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    return b"".join(rows(np.ascontiguousarray(array[r::dr, c::dc])) for r, c, dr, dc in passes)


def tiff(order, kind, value):
    e = "<" if order == b"II" else ">"
    field = {1: struct.pack(e + "B3x", value), 3: struct.pack(e + "H2x", value), 4: struct.pack(e + "I", value)}[kind]
    return order + struct.pack(e + "HIHHHI", 42, 8, 1, 0x0112, kind, 1) + field + b"\0\0\0\0"


def app1(jpeg, payload):
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def jpeg(picture=rgb, **options):
    data = io.BytesIO()
    picture.save(data, "JPEG", **{"quality": 95, **options})
    return data.getvalue()


wide = (RGB.astype(">u2") * 257 + 3).astype(">u2")
alpha = np.concatenate([RGB, (4 * x + 20).astype(np.uint8)[..., None]], -1)
grey = RGB.mean(-1).astype(np.uint8)
profile = tiff(b"MM", 3, 6)
text = "\nexif\n%8d\n" % (len(profile) + 6) + (b"Exif\0\0" + profile).hex() + "\n"
xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
plain = rows(RGB)
files = {
    "png-16-bit.png": png_of(16, 2, rows(wide)),
    "png-16-bit-interlaced.png": png_of(16, 2, adam7(wide), True),
    "png-interlaced-alpha.png": png_of(8, 6, adam7(alpha), True),
    "png-grey-alpha.png": png_of(8, 4, rows(np.stack([grey, alpha[..., 3]], -1))),
    "png-private-chunks.png": png_of(8, 2, plain, before=chunk(b"prVt", b"x" * 999), after=chunk(b"zzZz", b"y" * 99)),
    "png-raw-profile-ztxt.png": png_of(8, 2, plain, before=chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text.encode()))),
    "png-raw-profile-text-behind.png": png_of(8, 2, plain, after=chunk(b"tEXt", b"Raw profile type exif\0" + text.encode())),
    "png-xmp.png": png_of(8, 2, plain, before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp.encode())),
    "jpeg-progressive-420.jpg": jpeg(progressive=True, subsampling=2),
    "jpeg-progressive-444.jpg": jpeg(progressive=True, subsampling=0),
    "jpeg-422.jpg": jpeg(subsampling=1),
    "jpeg-cmyk.jpg": jpeg(rgb.convert("CMYK")),
    "jpeg-xmp.jpg": app1(jpeg(), b"http://ns.adobe.com/xap/1.0/\0" + xmp.encode()),
    "jpeg-icc.jpg": jpeg(icc_profile=b"p" * 70_000),
    "jpeg-exif-and-thumbnail.jpg": app1(jpeg(), b"Exif\0\0" + tiff(b"II", 4, 6) + jpeg(rgb.resize((16, 8)))),
}
for name, data in files.items():
    (out / name).write_bytes(data)
    expected(name)

# As large as 128 tokens admit, for tests of memory: mostly one colour.
SIDE = 1440
large = Image.new("RGB", (SIDE, SIDE), (200, 90, 40))
large.paste(rgb, (700, 700))
(out / "large.jpg").write_bytes(jpeg(large, quality=70))
(out / "large-progressive-420.jpg").write_bytes(jpeg(large, quality=70, progressive=True))
near = large.resize((1360, 1360))
(out / "large-progressive-444.jpg").write_bytes(jpeg(near, quality=70, progressive=True, subsampling=0))
W = H = SIDE
deep = np.full((SIDE, SIDE, 4), 0x7700, ">u2")
(out / "large-16-bit-interlaced.png").write_bytes(png_of(16, 6, adam7(deep), True))
(out / "large-16-bit.png").write_bytes(png_of(16, 6, rows(deep)))
(out / "large-grey-alpha.png").write_bytes(png_of(8, 4, rows(deep[:, :, :2].astype(np.uint8))))

rng = np.random.default_rng(5)
t = np.arange(9000) / 44100
stereo = np.stack([0.5 * np.sin(2 * np.pi * 330 * t), 0.3 * np.sin(2 * np.pi * 550 * t)], -1)
stereo += rng.normal(0, 0.01, stereo.shape)
soundfile.write(out / "flac-stereo-16.flac", stereo[:5000], 44100, subtype="PCM_16")
soundfile.write(out / "flac-mono-24.flac", stereo[:3000, 0], 48000, subtype="PCM_24")
soundfile.write(out / "wav-extensible-24.wav", stereo[:700], 44100, subtype="PCM_24", format="WAVEX")
soundfile.write(out / "wav-ulaw.wav", stereo[:700, 0], 8000, subtype="ULAW")
soundfile.write(out / "wav-alaw.wav", stereo[:700, 0], 8000, subtype="ALAW")
soundfile.write(out / "wav-double.wav", stereo[:700], 16000, subtype="DOUBLE")
soundfile.write(out / "wav-rf64.wav", stereo[:700], 16000, subtype="PCM_16", format="RF64")
# A FLAC from a pipe: neither its length nor its digest is known.
data = bytearray((out / "flac-stereo-16.flac").read_bytes())
data[21] &= 0xF0
data[22:42] = bytes(20)
(out / "flac-from-a-pipe.flac").write_bytes(data)


def sound(path):
    samples, rate = soundfile.read(path, always_2d=True)
    mean = samples.mean(-1)
    return {"frames": len(mean), "rate_hz": rate, "first": mean[:4].tolist(), "last": mean[-4:].tolist()}


names = sorted(path.name for path in out.iterdir() if path.suffix in (".wav", ".flac"))
# libsndfile does not know the length of one, and finds nothing in the other.
known = [name for name in names if name not in ("flac-from-a-pipe.flac", "wav-overflow.wav")]
(out / "sounds.json").write_text(json.dumps({name: sound(out / name) for name in known}, indent=1) + "\n")
