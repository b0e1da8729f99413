"""Classifies images with an exported model. Needs numpy, pillow and onnxruntime alone (Python 3.9 or newer).

    python run.py IMAGE...                       its top classes, with probabilities, and the time of one run
    python run.py --model model.ort IMAGE        another file than model.onnx
    python run.py --top 3 --threads 2 IMAGE

It lies beside `model.onnx` and `recipe.json`, which says what images the model takes. Images are read here as those
were that the model was trained and tested on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

# Formats are named, so that a file cannot reach the decoders of rarer ones (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 100_000_000
COLOURS = {1: "L", 3: "RGB"}  # the mode of Pillow for so many channels
CUT_HERE = ("folder",)  # data sets whose images were cut and resized as here; those of others are ready already
WARM_UP_RUNS, MAX_RUNS, RUNS_S = 3, 100, 0.5
USERS_MISTAKE = 2


def open_image(file: BinaryIO | Path) -> Image.Image:
    """Read the header; the pixels come later, and not at all from an image that is a decompression bomb."""
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS}")
    return image


def read_image(file: BinaryIO | Path, channels: int, side: int) -> Any:
    """One image file to uint8 [channels, side, side], as `words` says. Raises what Pillow raises for a damaged file."""
    with open_image(file) as image:
        upright = ImageOps.exif_transpose(image)
        flat = _without_alpha(_eight_bit(upright)).convert(COLOURS[channels])
    size = min(flat.size)
    left, top = (flat.width - size) // 2, (flat.height - size) // 2
    square = flat.crop((left, top, left + size, top + size))  # resize(box=...) would blend in what is outside of it
    pixels = np.asarray(square.resize((side, side), Image.Resampling.BILINEAR), np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def words(channels: int, side: int) -> str:
    """What `read_image` does, exactly, for the person who has to repeat it."""
    colours = "RGB" if channels == 3 else "grey (mode L)"
    return (
        "Decoded with Pillow (16-bit grey levels divided by 257), turned upright by ImageOps.exif_transpose, "
        f"transparent pixels laid on white, converted to {colours}; of width w and height h with s = min(w, h) the "
        "square of side s at left (w - s) // 2 and top (h - s) // 2 is cropped, then resized to "
        f"{side}x{side} with Pillow's bilinear filter (Image.Resampling.BILINEAR)."
    )


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(np.rint(levels / 257), 0, 255).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    return image


def _without_alpha(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


def probabilities(logits: Any) -> Any:
    """The softmax of logits [classes]."""
    powers = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    return powers / powers.sum()


def main(arguments: list[str] | None = None) -> int:
    """Classify, and return the exit status: 2 where something is to be mended, which one line says."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Classify images with the model in this folder.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--model", type=Path, default=here / "model.onnx", help="an .onnx or .ort file")
    parser.add_argument("--top", type=int, default=5, help="classes to print; 5 by default")
    parser.add_argument("--threads", type=int, default=1, help="threads of ONNX Runtime; 1 by default")
    given = parser.parse_args(arguments)
    try:
        data = _data(here / "recipe.json")
        session = _session(given.model, given.threads)
        for path in given.images:
            _classify(session, path, data, given.top, given.threads)
    except (OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return USERS_MISTAKE
    return 0


def _data(recipe: Path) -> dict[str, Any]:
    """What the recipe says of the images. Raises `ValueError`."""
    try:
        data: dict[str, Any] = json.loads(recipe.read_text(encoding="utf-8"))["study"]["data"]
        known = {name: data[name] for name in ("name", "classes", "channels", "resolution", "preprocessing")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{recipe} does not say what images the model takes ({error!r}); export it again") from None
    if known["channels"] not in COLOURS:
        raise ValueError(f"the model takes images of {known['channels']} channels, which no image file has")
    return known


def _session(model: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base class of their own
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"ONNX Runtime {onnxruntime.__version__} refuses {model}: {reason}") from None


def _classify(session: Any, path: Path, data: dict[str, Any], top: int, threads: int) -> None:
    channels, side = data["channels"], data["resolution"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd metadata
            with open_image(path) as image:
                width, height = image.size
            pixels = read_image(path, channels, side)
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise ValueError(f"{path} is no image that can be read: {error}") from None
    if (width, height) != (side, side) and data["name"] not in CUT_HERE:
        note = f"{path} is {width}x{height}, cut and resized to {side}x{side}; the model knows images made otherwise"
        print(f"note: {note}: {data['preprocessing']}", file=sys.stderr)  # noqa: T201
    logits, ms, runs = _run(session, pixels[None].astype(np.float32) / 255)
    found = probabilities(logits)
    print(_printable(str(path)))  # noqa: T201
    for place in np.argsort(-found, kind="stable")[:top]:
        print(f"  {found[place]:8.4%}  {_printable(str(data['classes'][place]))}")  # noqa: T201
    print(f"  {ms:.3f} ms, median of {runs} runs, {threads} thread{'s' * (threads > 1)}")  # noqa: T201


def _run(session: Any, images: Any) -> tuple[Any, float, int]:
    """The logits of one image, and the median time of some runs in ms."""
    feed = {session.get_inputs()[0].name: images}
    for _ in range(WARM_UP_RUNS):
        logits = session.run(None, feed)[0][0]
    times: list[float] = []
    while len(times) < MAX_RUNS and sum(times) < 1000 * RUNS_S:
        start = time.perf_counter()
        session.run(None, feed)
        times.append(1000 * (time.perf_counter() - start))
    return logits, float(np.median(times)), len(times)


def _printable(text: str) -> str:
    """Names come from outside, and could move a terminal's cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


if __name__ == "__main__":
    sys.exit(main())
