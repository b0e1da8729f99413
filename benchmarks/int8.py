"""Where int8 pays: the latency of networks in float and in int8, by their activations and their number of channels.

    python benchmarks/int8.py [--target local] [--seconds 4]

Random weights: latency does not depend on them. Networks of depthwise separable blocks at 32 x 32 pixels with ReLU,
hard-swish and SiLU at 8 to 128 channels, and three of torchvision's at 96 x 96, each as it is and quantized by the
technique `quantize` at its defaults; all measured in one interleaved campaign, at batch 1 and one thread. Prints one
JSON object; docs/int8_slower.md shows it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import nn

from nas_edge import Augmentation, Context, ImageData, Split, Target, import_torchvision
from nas_edge.config import TrainConfig
from nas_edge.export import export_onnx, save_model
from nas_edge.plugins import load_plugins
from nas_edge.targets.address import parse_target
from nas_edge.train.trainer import ImageTrainer

ACTIVATIONS = {"ReLU": nn.ReLU, "hard-swish": nn.Hardswish, "SiLU": nn.SiLU}
WIDTHS = (8, 32, 64, 128)
FAMILIES = ("mobilenet_v2", "mobilenet_v3_small", "resnet18")
BLOCKS, IMAGES, CLASSES = 6, 64, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="local")
    parser.add_argument("--seconds", type=float, default=4.0, help="of measuring, a file")
    given = parser.parse_args()
    target = parse_target(load_plugins().targets, given.target)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(target, given.seconds, Path(folder))
    print(json.dumps({"benchmark": "int8", "target": target.name, "device": target.fingerprint(), "networks": rows}))


def measured(target: Target, seconds: float, folder: Path) -> list[dict[str, Any]]:
    quantize = load_plugins().find("technique", "quantize")
    found, paths = networks(), []
    for number, (_, side, network) in enumerate(found):
        data = noise(side)
        trainer = ImageTrainer(data, TrainConfig(), 0)
        context = Context(data, target, trainer, folder, seed=0, samples=IMAGES)
        graph = export_onnx(network.eval(), channels=3, resolution=side)
        config = quantize.config_type(calibration_images=IMAGES)
        for kind, model in (("float", graph), ("int8", quantize.graph(graph, config, context))):
            paths.append(folder / f"{number}-{kind}.onnx")
            save_model(model, paths[-1])
    results = target.measure_many(paths, seconds)
    rows = []
    for number, (name, side, _) in enumerate(found):
        plain, whole = results[2 * number : 2 * number + 2]
        sizes = [path.stat().st_size for path in paths[2 * number : 2 * number + 2]]
        rows.append(
            {
                "network": name,
                "side": side,
                "float_ms": round(plain.p50_ms, 4),
                "int8_ms": round(whole.p50_ms, 4),
                "time": round(whole.p50_ms / plain.p50_ms, 3),
                "size": round(sizes[1] / sizes[0], 3),
                "unstable_because": plain.unstable_because or whole.unstable_because,
            }
        )
    return rows


def networks() -> list[tuple[str, int, nn.Module]]:
    """Name, side of the images in pixels, and network."""
    torch.manual_seed(0)
    models = import_torchvision().models
    chains = [(f"{width} channels, {name}", 32, chain(width, a)) for name, a in ACTIVATIONS.items() for width in WIDTHS]
    return chains + [(name, 96, models.get_model(name, num_classes=CLASSES)) for name in FAMILIES]


def chain(width: int, activation: type[nn.Module]) -> nn.Module:
    """A stem and depthwise separable blocks (Howard et al. 2017) of one width."""
    layers = [*convolution(3, width, 3, 2), activation()]
    for _ in range(BLOCKS):
        layers += [*convolution(width, width, 3, 1, width), activation(), *convolution(width, width, 1), activation()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def convolution(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, ...]:
    layer = nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return layer, nn.BatchNorm2d(width)


def noise(side: int) -> ImageData:
    """Random images, for the ranges of activations."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, side, side), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(IMAGES) % CLASSES)
    names = tuple(map(str, range(CLASSES)))
    return ImageData("noise", names, split, split, split, (0.5,) * 3, (0.3,) * 3, Augmentation(), "noise", "none")


if __name__ == "__main__":
    main()
