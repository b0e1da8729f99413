"""The data sets that ship with nas_edge: digits, fashion-mnist, cifar10, image folders and arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nas_edge.contracts import Augmentation, DataSource, ImageData
from nas_edge.errors import DataError, UserError
from nas_edge.hookspecs import hookimpl

if TYPE_CHECKING:
    from nas_edge.data.assemble import Images, Labels


class Digits(DataSource):
    """scikit-learn's 1,797 handwritten digits (a part of the UCI optical recognition set), in its wheel."""

    name = "digits"
    needs_location = False

    def load(self, location: str, *, seed: int, train_images: int | None = None) -> ImageData:
        if location:
            raise UserError(f"data set 'digits' is built in and takes no location, not {location!r}; write digits")
        import numpy as np
        from sklearn.datasets import load_digits

        from nas_edge.data.assemble import assemble, make_split
        from nas_edge.data.splits import split_pool

        levels, labels = load_digits(return_X_y=True)
        images = np.rint(levels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        labels = labels.astype(np.int64)
        classes = [str(digit) for digit in range(10)]
        parts = split_pool(labels, classes, seed=seed, train_images=train_images)
        return assemble(
            self.name,
            classes,
            (
                make_split(images[parts.train], labels[parts.train]),
                make_split(images[parts.validation], labels[parts.validation]),
                make_split(images[parts.test], labels[parts.test]),
            ),
            augmentation=Augmentation(shift=1 / 8),
            preprocessing="Grey levels 0..16 of sklearn.datasets.load_digits, times 255/16 and rounded to 0..255.",
        )


class TorchvisionSource(DataSource):
    """A data set that torchvision reads from a folder, with its own test split."""

    reader: ClassVar[str]
    holds: ClassVar[str]
    augmentation: ClassVar[Augmentation]

    def load(self, location: str, *, seed: int, train_images: int | None = None) -> ImageData:
        from nas_edge.data.assemble import assemble, make_split
        from nas_edge.data.splits import split_pool

        root = _existing(self.name, location, self.holds)
        images, labels, classes = self._read(root, train=True)
        test_images, test_labels, _ = self._read(root, train=False)
        parts = split_pool(labels, classes, seed=seed, train_images=train_images, draw_test=False)
        return assemble(
            self.name,
            classes,
            (
                make_split(images[parts.train], labels[parts.train]),
                make_split(images[parts.validation], labels[parts.validation]),
                make_split(test_images, test_labels),
            ),
            augmentation=self.augmentation,
            preprocessing=f"Pixels 0..255 as torchvision.datasets.{self.reader} gives them, unchanged.",
        )

    def _read(self, root: Path, *, train: bool) -> tuple[Images, Labels, list[str]]:
        """Images uint8 [N, C, S, S], labels and class names of torchvision's train or test part."""
        from nas_edge.data.vision import import_torchvision

        reader = getattr(import_torchvision().datasets, self.reader)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of how old the pickles of CIFAR-10 are
                return self._arrays(reader(root, train=train, download=False))
        except Exception as error:  # its readers raise whatever a missing or damaged file leads to
            reason = " ".join(str(error).split()).split(". You can use download")[0] or type(error).__name__
            raise DataError(
                f"{self.name}: {str(root)!r} cannot be read ({reason}); it should hold {self.holds}"
            ) from error

    def _arrays(self, part: Any) -> tuple[Images, Labels, list[str]]:
        import numpy as np

        images = np.asarray(part.data)
        images = images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        labels, classes = np.asarray(part.targets, dtype=np.int64), list(part.classes)
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
        if labels.size and not 0 <= labels.min() <= labels.max() < len(classes):
            raise ValueError(f"labels in {labels.min()}..{labels.max()} for {len(classes)} classes")
        return images, labels, classes


class FashionMnist(TorchvisionSource):
    """Xiao, Rasul and Vollgraf, "Fashion-MNIST", 2017: 70,000 grey images of 28x28, 10 classes."""

    name = "fashion-mnist"
    reader = "FashionMNIST"
    holds = (
        "FashionMNIST/raw/train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
        "t10k-labels-idx1-ubyte (unpack them where they end in .gz)"
    )
    augmentation = Augmentation(shift=1 / 14, mirror=True)


class Cifar10(TorchvisionSource):
    """Krizhevsky, "Learning multiple layers of features from tiny images", 2009: 60,000 images of 32x32, 10 classes."""

    name = "cifar10"
    reader = "CIFAR10"
    holds = "cifar-10-batches-py/ with data_batch_1 to data_batch_5, test_batch and batches.meta, as published"
    augmentation = Augmentation(shift=1 / 8, mirror=True)


class Folder(DataSource):
    """A folder of images, or a tar archive of one, with a sub-folder a class, in ready splits or none."""

    name = "folder"
    holds = "a sub-folder of images for each class, or train/ and test/ with those in them"

    def load(self, location: str, *, seed: int, train_images: int | None = None) -> ImageData:
        from nas_edge.data.folder import load_folder

        return load_folder(_existing(self.name, location, self.holds), seed=seed, train_images=train_images)


class Arrays(DataSource):
    """An .npz file of arrays `images` and `labels`."""

    name = "arrays"
    holds = "arrays 'images', uint8 [count, channels, side, side], and 'labels'"

    def load(self, location: str, *, seed: int, train_images: int | None = None) -> ImageData:
        from nas_edge.data.arrays import load_arrays

        return load_arrays(_existing(self.name, location, self.holds), seed=seed, train_images=train_images)


def _existing(name: str, location: str, holds: str) -> Path:
    try:
        path = Path(location).expanduser()
        path.stat()
    except (OSError, RuntimeError) as error:  # no such path or user, no permission, too long a name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{name}: there is no {location!r} ({reason}); it should hold {holds}") from error
    return path


@hookimpl
def register_datasets(register: Callable[[DataSource], None]) -> None:
    for source in (Digits(), FashionMnist(), Cifar10(), Folder(), Arrays()):
        register(source)
