"""What all targets share that are measured by agents: options in the address, campaigns, measurements."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from nas_edge.contracts import Target
from nas_edge.errors import UserError
from nas_edge.latency.samples import Summary, Visit, summarise
from nas_edge.records import Measurement
from nas_edge.targets.address import Address, parse_threads, parse_whole
from nas_edge.targets.anchors import Anchor, anchor_file, load_anchor, save_first
from nas_edge.targets.campaign import Campaign
from nas_edge.targets.client import AgentClient
from nas_edge.targets.process import AgentProcess, AgentRefusal, LinkLost

AGENTS = 3  # fresh processes in a campaign: the layout of memory, drawn at each start, shifts latencies
CPU = "CPUExecutionProvider"
MAX_MEMORY_MB = 1 << 20
SPEED_RANGE = 1.15  # how much faster or slower than its anchor a device may run without a word

T = TypeVar("T")


class MissingPackages(UserError):
    """The device answers, and lacks packages that the agent needs."""


def option(default: T, parse: Callable[[str], T]) -> T:
    """A field of the options: its default, which an address may leave out, and what reads its text or raises."""
    made: T = field(default=default, metadata={"parse": parse})
    return made


def parse_provider(text: str) -> str:
    """The name of an execution provider. Raises `UserError` for what cannot be one."""
    if not re.fullmatch(r"[A-Za-z0-9]+", text):
        raise UserError(f"provider is {text!r}; give a name of onnxruntime's, as in local?provider={CPU}")
    return text


@dataclass(frozen=True)
class AgentOptions:
    """Options of a target: `threads` of ONNX Runtime, its execution `provider`, agents in a campaign, memory of each.

    A `max_memory_mb` of 0 stands for three quarters of the device's memory.
    """

    threads: int = option(1, parse_threads)
    provider: str = option(CPU, parse_provider)
    processes: int = option(AGENTS, lambda text: parse_whole("processes", text, 16))
    max_memory_mb: int = option(0, lambda text: parse_whole("max_memory_mb", text, MAX_MEMORY_MB))

    def given(self) -> dict[str, str]:
        """The options that are not at their defaults, as an address writes them."""
        return {f.name: str(getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default}


Options = TypeVar("Options", bound=AgentOptions)


def parse_options(kind: type[Options], scheme: str, given: Mapping[str, object]) -> Options:
    """Options from an address. Raises `UserError` naming the option that is unknown or has a wrong value."""
    known: dict[str, Field[Any]] = {f.name: f for f in fields(kind)}
    for name in given:
        if name not in known:
            raise UserError(f"{scheme} has no option {name!r}; it has {', '.join(known)}")
    return kind(**{name: known[name].metadata["parse"](str(value)) for name, value in given.items()})


class AgentTarget(Target):
    """A device that is measured by agents. A subclass says how one is started. `name` is the canonical address."""

    scheme: ClassVar[str]
    pauses_s: ClassVar[Sequence[float]] = (0.1, 1.0)
    """Before each new try when an agent that once answered is lost."""
    remedy: str = "`nas-edge doctor` looks for the cause"

    def __init__(self, place: str, options: AgentOptions) -> None:
        self.options = options
        self.name = str(Address(self.scheme, place, options.given()))
        self._fingerprint: dict[str, Any] | None = None

    def start(self) -> AgentProcess:
        """Start one agent. Raises `LinkLost`."""
        raise NotImplementedError

    def agent_arguments(self) -> list[str]:
        """How the options are told to the agent."""
        options = self.options
        return [
            f"--threads={options.threads}",
            f"--provider={options.provider}",
            f"--max-memory-mb={options.max_memory_mb}",
        ]

    def fingerprint(self) -> dict[str, Any]:
        """What a latency depends on. Raises `UserError` where the device does not answer or cannot do what is asked."""
        if self._fingerprint is None:
            with self._client() as client:
                self._fingerprint = client.hello()
        return dict(self._fingerprint)

    @contextmanager
    def campaign(self, seed: int = 0, *, homes: int | None = None) -> Iterator[Campaign]:
        """Fresh agents to which models can be added and visited; they end with the block.

        Each model is visited in so many of them (`homes`; all, where that is None): loading it takes as long as a
        visit. The first campaign that is long and quiet enough becomes the anchor of the later ones.
        """
        with ExitStack() as stack:
            clients = [stack.enter_context(self._client()) for _ in range(self.options.processes)]
            # What other threads or another processor do is not in the caller's processor time.
            use_cpu_time = self.options.threads == 1 and self.options.provider == CPU
            file = anchor_file(self.fingerprint())
            anchor = load_anchor(file)
            campaign = Campaign(clients, use_cpu_time=use_cpu_time, seed=seed, homes=homes, anchor=anchor)
            yield campaign
            if anchor is None and campaign.can_be_anchor():
                save_first(file, Anchor.now(campaign.references_ms()), self.name)

    def measure(self, model: Path, budget_s: float) -> Measurement:
        return self.measure_many([model], budget_s)[0]

    def measure_many(self, models: Sequence[Path], budget_s: float) -> list[Measurement]:
        """All files in one interleaved campaign of `budget_s` each, loading included.

        Raises `ModelError` or `MeasurementError`.
        """
        with self.campaign() as campaign:
            start = time.monotonic()
            for model in models:
                campaign.add(Path(model))
            campaign.run(budget_s * len(models) - (time.monotonic() - start))
            visits, speed = campaign.visits, campaign.speed()
            doubt = self._doubt(campaign)
        return [self._measurement(summarise(seen), seen, speed, doubt) for seen in visits]

    def _measurement(self, summary: Summary, visits: Sequence[Visit], speed: float, doubt: str | None) -> Measurement:
        return Measurement(
            p50_ms=summary.p50_ms,
            p90_ms=summary.p90_ms,
            low_ms=summary.low_ms,
            high_ms=summary.high_ms,
            samples=summary.samples,
            target=self.name,
            fingerprint=self.fingerprint(),
            unstable_because="; ".join(filter(None, [doubt, summary.unstable_because])) or None,
            visits=len(visits),
            processes=len({visit.process for visit in visits}),
            speed=speed,
        )

    def _doubt(self, campaign: Campaign) -> str | None:
        """Why all latencies of a campaign may be wrong: the device is not what it was when the anchor was made."""
        if not campaign.alone:
            return "other searches on this machine did not pause for it; measure again when they have ended"
        anchor, speed = campaign.anchor, campaign.speed()
        if anchor is None or 1 / SPEED_RANGE <= speed <= SPEED_RANGE:
            return None
        return (
            f"the device now runs at {speed:.0%} of the speed it had on {anchor.made}; stop other work and let it cool "
            f"down, or remove {anchor_file(self.fingerprint())} to accept the new speed"
        )

    @contextmanager
    def _client(self) -> Iterator[AgentClient]:
        """An agent that answers. One that never did is not asked again: its address or its set-up is wrong."""
        with AgentClient(self.start, () if self._fingerprint is None else self.pauses_s) as client:
            try:
                self._fingerprint = client.hello()
            except AgentRefusal as error:
                kind = MissingPackages if error.missing else UserError
                raise kind(f"target {self.name}: {error}") from None
            except LinkLost as error:
                raise UserError(f"target {self.name} does not answer: {error.why}; {self.remedy}") from None
            client.pauses_s = tuple(self.pauses_s)
            yield client
