"""The names of networks: `torchvision:NAME[:WEIGHTS]` and `module:function[:WEIGHTS]`. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas_edge.errors import UserError

TORCHVISION, PYTHON = "torchvision", "python"
FORMS = "torchvision:NAME, torchvision:NAME:WEIGHTS.pt or module:function"


@dataclass(frozen=True)
class ModelReference:
    """A network by name. `field` is what the user calls it, and begins each message: "model", "distill: teacher"."""

    text: str
    source: str
    name: str
    weights: Path | None
    field: str

    @classmethod
    def parse(cls, text: str, field: str = "model") -> ModelReference:
        """Raises `UserError` for what has none of the forms."""
        source, _, rest = text.partition(":")
        name, _, weights = rest.partition(":")
        if not source or not name:
            raise UserError(f"{field}={text!r} is no network; give {FORMS}")
        return cls(text, source, name, Path(weights) if weights else None, field)

    @property
    def trained(self) -> bool:
        """Whether it comes with its weights. A function is taken to give a network as it is to be used."""
        return self.source != TORCHVISION or self.weights is not None

    @property
    def short(self) -> str:
        """For titles: without the file of its weights, and a function without its module."""
        return f"{self.source}:{self.name}" if self.source == TORCHVISION else self.name

    def refuse(self, why: str, remedy: str) -> UserError:
        return UserError(f"{self.field}={self.text!r} {why}; {remedy}")
