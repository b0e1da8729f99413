"""What quantization costs trained MobileNet-style networks: int8 with the defaults, and 4-bit weights in two ways.

    python benchmarks/quantization.py --data fashion-mnist:ROOT [--images 60000] [--folder F] [--json]

Three networks are trained: in the style of MobileNetV1 (ReLU), V2 (ReLU6) and V3 (hard-swish, squeeze-excite).
Each is given to `nas-edge compress` with one technique fixed and the gate off: `quantize` at its defaults, `quantize`
with 4-bit weights (plain, and with equalization and bias correction), and `qat` with 4-bit weights after training on
`--images`. Accuracy is that of the files in ONNX Runtime on the test split. Prints one JSON object.
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
from benchmarks.support.log import Log, log
from nas_edge.engine.recipes import copy_model
from nas_edge.export.runtime import accuracy

NETWORKS = {"MobileNetV1": "fashion_mnist_v1", "MobileNetV2": "fashion_mnist", "MobileNetV3": "fashion_mnist_v3"}
EPOCHS = 8  # of each network's training
FOUR_BITS = {"quantize.enabled": True, "quantize.weight_bits": 4}
WAYS: dict[str, dict[str, Any]] = {
    "int8 with the defaults": {"quantize.enabled": True},
    "4-bit weights after training": FOUR_BITS,
    "4-bit weights after training, equalized and corrected": {
        **FOUR_BITS,
        "quantize.equalize": True,
        "quantize.bias_correction": True,
    },
    "4-bit weights in training": {"qat.enabled": True, "qat.weight_bits": 4},
}
INT8, *AFTER, IN_TRAINING = WAYS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="fashion-mnist:ROOT")
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--images", type=int, default=60_000, help="that quantization-aware training sees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/quantization-benchmark"))
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    rows = {network: _row(arguments, network) for network in arguments.networks}
    print(json.dumps({"benchmark": "quantization", "data": arguments.data, "images": arguments.images, **rows}))


def _row(arguments: argparse.Namespace, network: str) -> dict[str, Any]:
    """Test accuracy of the float network, and the points that each way loses of it."""
    log(f"training {network}")
    setting = Setting(arguments.data, NETWORKS[network], arguments.folder / network)
    given = trained_baseline(setting, epochs=EPOCHS, max_rounds=1)
    before = accuracy(given.path, setting.images.test)
    loss = {}
    for number, (way, choices) in enumerate(WAYS.items()):
        folder = setting.folder / f"way_{number}"
        done = folder / "accuracy.json"
        if not done.exists():
            done.write_text(json.dumps(_made(arguments, setting, choices, folder)))
        loss[way] = round(100 * (before - json.loads(done.read_text())), 2)
    best_after = min(loss[way] for way in AFTER)
    return {
        "float_test_accuracy": round(before, 4),
        "loss_points": loss,
        "int8_within_half_a_point": loss[INT8] <= 0.5,
        "gained_in_training_points": round(best_after - loss[IN_TRAINING], 2),
    }


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
