"""nas-edge in 200 lines: what it does, in its order, without what makes it hold on other people's machines.

    python nas_edge_mini.py --trials 30

searches for small networks that read handwritten digits, on the CPU that it runs on. docs/mini.md walks through it.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import optuna
import pluggy
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from scipy.optimize import nnls
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

INPUT = "input"


def load_data(seed=0):
    """Train, validation and test, each (images float32 [n, 1, 8, 8] in 0..1, labels [n]): 60, 20 and 20 per cent."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    images, test, labels, test_labels = train_test_split(images, digits.target, test_size=0.2, random_state=seed)
    train, val, train_labels, val_labels = train_test_split(images, labels, test_size=0.25, random_state=seed)
    return (train, train_labels), (val, val_labels), (test, test_labels)


def suggest(trial):
    """One architecture: inverted residual blocks (Sandler et al. 2018) of one width."""
    return {
        "width": trial.suggest_int("width", 8, 32, step=8),
        "blocks": trial.suggest_int("blocks", 1, 4),
        "kernel": trial.suggest_categorical("kernel", [3, 5]),
        "expand": trial.suggest_int("expand", 1, 4),
    }


def build(params):
    """Images [n, 1, 8, 8] to logits [n, 10]."""
    width, stem = params["width"], conv(1, params["width"], 3)
    blocks = [Block(width, params["expand"], params["kernel"]) for _ in range(params["blocks"])]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


class Block(nn.Module):
    """Expand pointwise, filter depthwise, project pointwise, and add what came in."""

    def __init__(self, width, expand, kernel):
        super().__init__()
        inner = width * expand
        layers = *conv(width, inner, 1), *conv(inner, inner, kernel, groups=inner), *conv(inner, width, 1)[:2]
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs):
        return inputs + self.layers(inputs)


def conv(channels, width, kernel, groups=1):
    layer = nn.Conv2d(channels, width, kernel, padding=kernel // 2, groups=groups, bias=False)
    return layer, nn.BatchNorm2d(width), nn.ReLU()


def train(model, split, epochs, seed=0):
    torch.manual_seed(seed)
    images, labels = map(torch.from_numpy, split)
    steps = max(1, epochs * (len(labels) // 64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(labels), (64,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


hookspec, hookimpl = pluggy.HookspecMarker("mini"), pluggy.HookimplMarker("mini")


class Hooks:
    @hookspec
    def register_techniques(self, register):
        """At load: `register(technique)`, something with a `name` and `graph(path, images) -> path`."""


class Int8:
    """Static int8: ranges of the activations from training images, in the exported file."""

    name = "int8"

    def graph(self, path, images):
        class Reader(CalibrationDataReader):
            def __init__(self):
                self.batches = iter([{INPUT: image[None]} for image in images[:64]])

            def get_next(self):
                return next(self.batches, None)

        quantized = path.with_suffix(".int8.onnx")
        quantize_static(path, quantized, Reader(), quant_format=QuantFormat.QDQ, per_channel=True)
        return quantized


class BuiltIns:
    @hookimpl
    def register_techniques(self, register):
        register(Int8())


def load_plugins(*others):
    """The techniques by name, ours through the same door as anybody's, sorted: install order never matters."""
    manager, found = pluggy.PluginManager("mini"), {}
    manager.add_hookspecs(Hooks)
    for plugin in (BuiltIns(), *others):
        manager.register(plugin)
    manager.check_pending()
    manager.hook.register_techniques(register=lambda technique: found.setdefault(technique.name, technique))
    return dict(sorted(found.items()))


def produce(params, techniques, data, epochs, path):
    """The ONNX file of a candidate: built, trained (0 epochs: not at all), exported, compressed."""
    model = train(build(params), data, epochs)
    image = torch.zeros(1, 1, 8, 8)
    torch.onnx.export(model, image, path, input_names=[INPUT], dynamo=False, dynamic_axes={INPUT: {0: "n"}})
    for technique in techniques:
        path = technique.graph(path, data[0])
    return path


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def accuracy(path, split):
    """Of the file that would ship, in the runtime that would run it."""
    images, labels = split
    return float((session(path).run(None, {INPUT: images})[0].argmax(1) == labels).mean())


def measure_ms(path, seconds=0.1):
    """The median time of a run at batch 1, in processor time, after a warm-up."""
    runner, feed, times = session(path), {INPUT: np.zeros((1, 1, 8, 8), np.float32)}, []
    for _ in range(20):
        runner.run(None, feed)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.thread_time_ns()
        runner.run(None, feed)
        times.append((time.thread_time_ns() - start) / 1e6)
    return statistics.median(times)


def work(path):
    """What a file makes the CPU do: for each kind of kernel, how many there are and how much they do."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    values = [*graph.value_info, *graph.output]
    elements = {v.name: np.prod([d.dim_value or 1 for d in v.type.tensor_type.shape.dim]) for v in values}
    weights = {w.name: w.dims for w in graph.initializer}
    int8 = {out: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    kinds = {}
    for node in graph.node:
        size, kind = float(elements.get(node.output[0], 1)), node.op_type
        if kind in ("Conv", "Gemm"):
            shape = weights.get(node.input[1]) or weights[int8[node.input[1]]]
            size *= float(np.prod(shape[1:]))  # multiply-accumulates
            grouped = any(a.name == "group" and a.i > 1 for a in node.attribute)
            kind += " depthwise" if grouped else ""
        kind = f"int8 {kind}" if any(name in int8 for name in node.input) else kind
        count, total = kinds.get(kind, (0, 0.0))
        kinds[kind] = count + 1, total + size
    return kinds


class Predictor:
    """A latency is a sum over kernels: each kind has a price for a start and one for its work, of 0 or more."""

    def __init__(self, works, latencies_ms):
        self.kinds = sorted({kind for found in works for kind in found})
        rows = np.array([self.features(found) for found in works])
        scaled = rows / np.array(latencies_ms)[:, None]  # so that relative errors count, small networks as large ones
        self.scale = scaled.max(axis=0).clip(1e-12)
        self.prices = nnls(scaled / self.scale, np.ones(len(rows)))[0] / self.scale

    def features(self, found):
        return [1.0, *(value for kind in self.kinds for value in found.get(kind, (0, 0.0)))]

    def predict_ms(self, found):
        """None where it holds a kind of kernel that was never calibrated: not counted as nothing, but measured."""
        return None if found.keys() - set(self.kinds) else float(np.dot(self.features(found), self.prices))


def calibrate(techniques, data, networks, folder):
    """Measure random candidates of the space, untrained; the predictor, and its error on those it was not fitted on."""
    works, times = [], []
    for number in range(networks):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number)).ask()
        chosen = [t for t in techniques.values() if trial.suggest_categorical(t.name, [False, True])]
        path = produce(suggest(trial), chosen, data, 0, folder / "calibration.onnx")
        works.append(work(path))
        times.append(measure_ms(path))
    errors = []
    for fold in range(4):
        kept = [i for i in range(networks) if i % 4 != fold]
        fitted = Predictor([works[i] for i in kept], [times[i] for i in kept])
        predicted = [(fitted.predict_ms(works[i]), times[i]) for i in range(fold, networks, 4)]
        errors += [abs(ms / true - 1) for ms, true in predicted if ms is not None]
    return Predictor(works, times), statistics.median(errors)


def search(trials, epochs, networks, folder, plugins=()):
    """The study, and the front as rows: test accuracy and latency, measured, of each member."""
    folder.mkdir(parents=True, exist_ok=True)
    techniques, (train_split, validation, test) = load_plugins(*plugins), load_data()
    predictor, error = calibrate(techniques, train_split, networks, folder)
    print(f"calibrated on {networks} networks; held-out error {error:.1%} (median)")

    def evaluate(trial):
        chosen = [t for t in techniques.values() if trial.suggest_categorical(t.name, [False, True])]
        path = produce(suggest(trial), chosen, train_split, epochs, folder / f"trial-{trial.number}.onnx")
        predicted = predictor.predict_ms(work(path))
        trial.set_user_attr("file", str(path))
        trial.set_user_attr("techniques", " + ".join(t.name for t in chosen) or "none")
        return accuracy(path, validation), predicted if predicted is not None else measure_ms(path)

    study = optuna.create_study(
        study_name="mini",
        storage=f"sqlite:///{folder / 'study.db'}",  # what is finished survives being killed
        load_if_exists=True,
        directions=["maximize", "minimize"],
    )
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    study.optimize(evaluate, n_trials=max(0, trials - len(study.trials)))
    front = sorted(study.best_trials, key=lambda t: t.values[1])
    return study, [row(trial, test) for trial in front]


def row(trial, test):
    """What the report says of a member of the front: nothing was chosen by its test accuracy, and it is measured."""
    path = Path(trial.user_attrs["file"])
    return {
        "trial": trial.number,
        "validation": trial.values[0],
        "test": accuracy(path, test),
        "searched_ms": trial.values[1],
        "measured_ms": measure_ms(path, 0.5),
        "size_bytes": path.stat().st_size,
        "techniques": trial.user_attrs["techniques"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--networks", type=int, default=24, help="to calibrate the latency predictor on")
    parser.add_argument("--out", type=Path, default=Path("mini"))
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger().setLevel(logging.ERROR)  # of the quantizer
    warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter
    members = search(given.trials, given.epochs, given.networks, given.out)[1]
    print("trial validation   test searched_ms measured_ms size_bytes techniques")
    columns = "{trial:>5} {validation:>10.1%} {test:>6.1%} {searched_ms:>11.4f} {measured_ms:>11.4f} {size_bytes:>10} "
    for member in members:
        print(columns.format(**member) + member["techniques"])
