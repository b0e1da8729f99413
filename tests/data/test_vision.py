"""torchvision's import, each time in a fresh process as the declarations last as long as one, and its networks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import torch

from nas_edge import torchvision_network


def run(code: str, *, path: Path | None = None) -> str:
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    if path:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_transforms_and_data_sets_work() -> None:
    out = run(
        """
        import torch
        from nas_edge.data.vision import import_torchvision
        vision = import_torchvision()
        assert import_torchvision() is vision
        import torchvision
        assert torchvision is vision
        model = vision.models.mobilenet_v2(num_classes=10).eval()
        print(tuple(model(torch.zeros(1, 3, 32, 32)).shape))
        from torchvision.transforms import v2
        print(tuple(v2.Resize((4, 5))(torch.zeros(3, 8, 8)).shape))
        print(vision.datasets.FashionMNIST.__name__)
        """
    )
    assert out.split("\n")[:3] == ["(1, 10)", "(3, 4, 5)", "FashionMNIST"]


def test_nothing_is_declared_where_the_plain_import_works() -> None:
    out = run(
        """
        try:
            import torchvision
            from nas_edge.data import vision
        except RuntimeError:
            # As on a machine where the operators load: they are there before torchvision is imported.
            from torch.library import Library
            library = Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            from nas_edge.data import vision
        assert vision.import_torchvision().__name__ == "torchvision"
        print(len(vision._declared))
        """
    )
    assert out.strip() == "0"


def test_another_fault_is_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('some other fault')\n")
    out = run(
        """
        from nas_edge.data import vision
        try:
            vision.import_torchvision()
        except RuntimeError as error:
            print(error, len(vision._declared))
        """,
        path=tmp_path,
    )
    assert out.strip() == "some other fault 0"


def test_networks_with_further_classifiers_give_logits_alone() -> None:
    model = torchvision_network("googlenet", in_channels=1, num_classes=4)
    assert model.train()(torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))).shape == (2, 4)
