"""What quantization costs trained MobileNet-style networks: int8 with the defaults, and weights of 4, 3 and 2 bits.

    python benchmarks/quantization.py --data fashion-mnist:ROOT [--bits 4 3 2] [--images 60000] [--folder F] [--json]

Three networks are trained: in the style of MobileNetV1 (ReLU), V2 (ReLU6) and V3 (hard-swish, squeeze-excite).
Each is given to `nas-edge compress` with one technique fixed and the gate off: `quantize` at its defaults, `quantize`
with fewer bits for the weights (plain, and with equalization and bias correction), and `qat` with as many after a
training on `--images`. Beside them stands what ONNX Runtime's own `quantize_static` makes with weights of 4 bits, per
tensor and per channel. Accuracy is that of the files in ONNX Runtime on the test split. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import nas_edge
from benchmarks.support.baseline_training import Setting, trained_baseline
from benchmarks.support.compression_ways import GRANULARITIES, calibration_images
from benchmarks.support.log import Log, log
from benchmarks.support.torchvision_families import prepared_int8
from nas_edge.engine.recipes import copy_model
from nas_edge.export import save_model
from nas_edge.export.runtime import accuracy

NETWORKS = {"MobileNetV1": "fashion_mnist_v1", "MobileNetV2": "fashion_mnist", "MobileNetV3": "fashion_mnist_v3"}
EPOCHS = 8  # of each network's training
INT8 = {"quantize.enabled": True}
CORRECTED = {"quantize.equalize": True, "quantize.bias_correction": True}
FEW_BITS = (4, 3, 2)  # of the weights; activations have 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="fashion-mnist:ROOT")
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--bits", type=int, nargs="+", choices=FEW_BITS, default=list(FEW_BITS))
    parser.add_argument("--images", type=int, default=60_000, help="that quantization-aware training sees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/quantization-benchmark"))
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    rows = {network: _row(arguments, network) for network in arguments.networks}
    print(json.dumps({"benchmark": "quantization", "data": arguments.data, "images": arguments.images, **rows}))


def _row(arguments: argparse.Namespace, network: str) -> dict[str, Any]:
    """Test accuracy of the float network, and the points that it loses in int8 and with fewer bits in each way."""
    log(f"training {network}")
    setting = Setting(arguments.data, NETWORKS[network], arguments.folder / network)
    given = trained_baseline(setting, epochs=EPOCHS, max_rounds=1)
    before = accuracy(given.path, setting.images.test)

    def lost(name: str, choices: dict[str, Any]) -> float:
        folder = setting.folder / name
        done = folder / "accuracy.json"
        if not done.exists():
            done.write_text(json.dumps(_made(arguments, setting, choices, folder)))
        made: float = json.loads(done.read_text())
        return round(100 * (before - made), 2)

    rows = {}
    for bits in arguments.bits:
        after = {**INT8, "quantize.weight_bits": bits}
        plain, corrected = lost(f"after_{bits}", after), lost(f"corrected_{bits}", {**after, **CORRECTED})
        trained = lost(f"trained_{bits}", {"qat.enabled": True, "qat.weight_bits": bits})
        rows[str(bits)] = {
            "after_training": plain,
            "after_training_corrected": corrected,
            "in_training": trained,
            "gained_in_training": round(min(plain, corrected) - trained, 2),
        }
    return {
        "float_test_accuracy": round(before, 4),
        "int8_loss_points": lost("int8", INT8),
        "loss_points_by_weight_bits": rows,
        "quantize_static_4_bits_loss_points": {
            name: round(100 * (before - _by_onnxruntime(arguments, setting, per_channel)), 2)
            for name, per_channel in GRANULARITIES.items()
        },
    }


def _by_onnxruntime(arguments: argparse.Namespace, setting: Setting, per_channel: bool) -> float:
    """The test accuracy of what ONNX Runtime's own tool makes with weights of 4 bits."""
    path = setting.folder / f"quantize_static_4_{'channel' if per_channel else 'tensor'}.onnx"
    images = calibration_images(setting, arguments.seed)
    save_model(prepared_int8(setting.folder / "baseline.onnx", images, per_channel=per_channel, weight_bits=4), path)
    return accuracy(path, setting.images.test)


def _made(arguments: argparse.Namespace, setting: Setting, choices: dict[str, Any], folder: Path) -> float:
    """The test accuracy of what `compress` makes with its techniques fixed."""
    technique = next(iter(choices)).partition(".")[0]
    made = nas_edge.compress(
        setting.reference,
        data=setting.data,
        techniques=[technique],
        set=choices,
        gate=False,
        max_drop=0.0,  # a goal that only training tells to be missed: the one candidate is made in any case
        trials=2,
        seed=arguments.seed,
        out=str(folder),
        train={"samples": arguments.images, "final_budget": 0.0},
        progress=Log(),
    ).stored
    [trial] = [t for t in made.trials() if t.user_attrs["techniques"] != "none"]
    path = folder / "made.onnx"
    copy_model(made, trial, path, final=False)
    return accuracy(path, setting.images.test)


if __name__ == "__main__":
    main()
