"""Images as a viewer shows them and as the model's own processor scales them; what has no one look is refused by its name."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
import tiny_models as tiny
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from essential_sparsity import tasks
from essential_sparsity.acquire import pictures
from essential_sparsity.runs import evaluation
from essential_sparsity.tasks import image_classification

RAMP = np.linspace(0, 65535, 16).reshape(4, 4)
GREY = np.rint(RAMP / 257)


def encoded(image, kind="PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def seen(image, kind="PNG", **options) -> np.ndarray:
    """(3, 4, 4) grey values 0…255."""
    return np.rint(255 * image_classification.decode(encoded(image, kind, **options), 4).numpy())


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(kind):
    assert (seen(Image.fromarray(RAMP.astype(np.uint16)), kind) == GREY).all()


def test_eight_bits_stay():
    assert (seen(Image.fromarray(GREY.astype(np.uint8))) == GREY).all()
    assert (seen(Image.fromarray(np.eye(4, dtype=bool))) == 255 * np.eye(4)).all()


def tiff(bits, data, photometric, side=4):
    """A grey TIFF of one strip."""
    tags = {
        256: (3, side),
        257: (3, side),
        258: (3, bits),
        259: (3, 1),
        262: (3, photometric),
        273: (4, 0),
        277: (3, 1),
        278: (3, side),
    }
    tags[279] = (4, len(data))
    tags[273] = (4, 8 + 2 + 12 * len(tags) + 4)
    entries = [
        struct.pack("<HHI", tag, kind, 1) + (struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value))
        for tag, (kind, value) in sorted(tags.items())
    ]
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + bytes(4) + data


def packed(values):
    """12 bits each, two in three bytes."""
    pairs = zip(values[::2], values[1::2], strict=True)
    return bytes(x for a, b in pairs for x in (a >> 4, (a & 15) << 4 | b >> 8, b & 255))


@pytest.mark.parametrize(("bits", "photometric"), [(8, 0), (8, 1), (12, 1), (16, 0), (16, 1)])
def test_the_largest_value_of_a_tiff_is_white_or_as_it_says_black(bits, photometric):
    values = np.rint(RAMP / 65535 * (2**bits - 1)).astype(np.uint16)
    data = (
        packed(values.ravel().tolist()) if bits == 12 else values.astype(np.uint8 if bits == 8 else np.uint16).tobytes()
    )
    shown = np.asarray(pictures.decoded(tiff(bits, data, photometric), "a.tif"))[..., 0]
    assert (shown == (GREY if photometric else 255 - GREY)).all()


def test_a_transparent_grey_of_sixteen_bits_is_white():
    stream = io.BytesIO()
    Image.fromarray(RAMP.astype(np.uint16)).save(stream, "PNG", transparency=int(RAMP.astype(np.uint16)[1, 2]))
    shown = np.asarray(pictures.decoded(stream.getvalue(), "a.png"))[..., 0]
    expected = GREY.copy()
    expected[1, 2] = 255
    assert (shown == expected).all()


def png(bits, colour, lines, clear):
    """A PNG of so many bits: kind of colour (0 grey, 2 RGB), packed lines, and the value that is transparent, 16 bits a part."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 4, 4, bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    parts = (chunk(b"IHDR", head), chunk(b"tRNS", clear), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_grey_of_few_bits_is_white(bits):
    values, clear = np.arange(16).reshape(4, 4) % 2**bits, 2**bits // 3
    lines = [np.packbits(np.unpackbits(row[:, None].astype(np.uint8), axis=1)[:, -bits:]).tobytes() for row in values]
    shown = np.asarray(pictures.decoded(png(bits, 0, lines, struct.pack(">H", clear)), "a.png"))[..., 0]
    assert (shown == np.where(values == clear, 255, values * 255 // (2**bits - 1))).all()


def test_a_transparent_colour_of_sixteen_bits_is_white():
    values = np.repeat(np.minimum(RAMP + 100, 65535).astype(">u2")[..., None], 3, axis=2)
    data = png(16, 2, [row.tobytes() for row in values], values[1, 2].tobytes())
    expected = np.rint(values[..., 0] / 257)
    expected[1, 2] = 255
    assert np.abs(np.asarray(pictures.decoded(data, "a.png"))[..., 0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("most", [1023, 65535])
def test_a_deep_grey_map_is_scaled_by_its_largest_value(most):
    values = np.rint(RAMP / 65535 * most).astype(">u2")
    shown = np.asarray(pictures.decoded(b"P5\n4 4\n%d\n" % most + values.tobytes(), "a.pgm"))[..., 0]
    assert np.abs(shown.astype(int) - GREY).max() <= 1


def alpha_grey():
    return Image.fromarray(np.stack([0 * GREY, GREY], -1).astype(np.uint8), "LA")


def alpha_colour():
    return Image.fromarray(np.stack([0 * GREY, 0 * GREY, 0 * GREY, GREY], -1).astype(np.uint8))


@pytest.mark.parametrize("image", [alpha_grey, alpha_colour])
def test_transparent_parts_are_white(image):
    assert np.abs(seen(image()) - (255 - GREY)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_colour_is_white(mode):
    pixels = np.zeros((4, 4), np.uint8)
    pixels[:, 1] = 1 if mode == "P" else 77
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette([0, 0, 0, 77, 77, 77])
    image = image if mode != "RGB" else image.convert("RGB")
    shown = seen(image, transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert (shown == np.where(pixels, 77, 255)).all()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_is_that_of_the_datasets_library(orientation):
    import datasets

    image, exif = Image.fromarray(GREY.astype(np.uint8)), Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "PNG", exif=exif)
    theirs = np.array(datasets.Image().decode_example({"bytes": data, "path": None}))
    assert not (theirs == GREY).all()
    assert (np.rint(255 * image_classification.decode(data, 4).numpy()) == theirs).all()


def frames(kind):
    two = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    return encoded(two[0], kind, save_all=True, append_images=two[1:])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encoded(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF"), "pixels of the kind 'F'"),
        (encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), "pixels of the kind 'I'"),
        (b"not an image", "cannot be decoded"),
        (b"", "cannot be decoded"),
        (None, "is missing"),
        (encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)))[:900], "cannot be decoded"),
        (frames("GIF"), "2 frames or pages"),
        (frames("TIFF"), "2 frames or pages"),
    ],
)  # fmt: skip
def test_what_has_no_one_look_is_refused_by_its_name(data, words):
    rows = image_classification.Images(["train/cat/7.tif"], [data], [0], 4, [0.5] * 3, [0.5] * 3)
    with pytest.raises(tasks.TaskError, match=rf"The image train/cat/7\.tif .*{words}"):
        rows[0]


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return tiny.save_vit(tmp_path_factory.mktemp("vit"))


@pytest.mark.parametrize(
    "stored",
    [
        {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]},
        {"image_processor_type": "ViTImageProcessor"},  # mean and deviation are the class's own
        {"feature_extractor_type": "ViTFeatureExtractor", "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]},
        {"image_processor_type": "ViTImageProcessor", "rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]},
        {"image_processor_type": "ViTImageProcessor", "do_normalize": False},
        {"image_processor_type": "ViTImageProcessor", "do_rescale": False, "image_mean": [120, 120, 120], "image_std": [60, 60, 60]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", image_classification.PROCESSOR_FILES)
def test_pixels_are_scaled_as_the_models_own_processor_does(vit, tmp_path, stored, file):
    (tmp_path / "config.json").write_bytes((vit / "config.json").read_bytes())
    content = {"image_processor": stored} if file == "processor_config.json" else stored
    (tmp_path / file).write_text(json.dumps(content))
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (4, 4, 3), np.uint8))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    theirs = processor(image, do_resize=False, return_tensors="pt")["pixel_values"][0]
    mean, std = image_classification.normalisation(tmp_path)
    ours = image_classification.Images(["a"], [encoded(image)], [0], 4, mean, std)[0]["pixel_values"]
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "stored",
    [
        {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5, 0.5]},
        {"image_processor_type": "ViTImageProcessor", "image_std": [0, 0, 0]},
        {"image_processor_type": "ViTImageProcessor", "image_std": [np.inf, 1, 1]},
        {"image_processor_type": "ViTImageProcessor", "image_mean": [np.nan] * 3},
        {"image_processor_type": "ViTImageProcessor", "image_mean": None},
        {"image_processor_type": "ViTImageProcessor", "rescale_factor": None},
        {"image_processor_type": "ViTImageProcessor", "rescale_factor": 0.0},
        {"image_processor_type": "ViTImageProcessor", "rescale_factor": np.inf},
        {"image_processor_type": "NoSuchProcessor"},
        {"image_processor_type": "ViTImageProcessor", "do_flip_channel_order": True},
    ],
)
def test_a_processor_that_cannot_be_followed_is_refused(vit, tmp_path, stored):
    (tmp_path / "config.json").write_bytes((vit / "config.json").read_bytes())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stored))
    with pytest.raises(tasks.TaskError, match=r"image processor of preprocessor_config\.json"):
        image_classification.normalisation(tmp_path)


@pytest.mark.parametrize("name", ["ViT", "DeiT", "Beit", "CLIP"])
def test_a_processor_under_its_older_name_is_the_same(vit, tmp_path, name):
    (tmp_path / "config.json").write_bytes((vit / "config.json").read_bytes())
    found = []
    for kind in ("FeatureExtractor", "ImageProcessor"):
        stored = {"image_processor_type": f"{name}{kind}", "image_mean": [0.1, 0.2, 0.3], "rescale_factor": 1 / 100}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(stored))
        found.append(image_classification.normalisation(tmp_path))
    assert found[0] == found[1]
    assert found[0][0] == pytest.approx([100 / 255 * mean for mean in (0.1, 0.2, 0.3)])


def beit(folder):
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.BeitModel(transformers.BeitConfig(**shape, image_size=16, patch_size=4)).save_pretrained(folder)
    return folder


def swin(folder):
    config = transformers.SwinConfig(
        image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=2
    )
    transformers.SwinModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["ViT", "DeiT", "Dinov2", "ViTMAE", "Beit", "Swin"])
def test_checkpoints_of_sixteen_bits_are_probed(tmp_path, name, dtype):
    make = {"Beit": beit, "Swin": swin}.get(name) or (lambda folder: tiny.save_vision(folder, name))
    folder = make(tmp_path)
    state = load_file(folder / "model.safetensors")
    half = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    settings = tiny.IMAGES | {"n_train": 40, "n_eval": 20}
    _, outcome = next(iter(evaluation.evaluate(folder, tiny.images(80), settings, "global", [0.5], 0)))
    assert 0 <= outcome.metrics["accuracy"] <= 1
    assert outcome.collapsed is None
