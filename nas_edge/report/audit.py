"""The error that a study's predictions really had: what `show` prints, `--json` gives and the card says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from nas_edge.engine.agreement import Agreement, above_stated, relative_error
from nas_edge.records import Audited, LatencyAudit
from nas_edge.store.study import StoredStudy


def latency_audit(stored: StoredStudy) -> dict[str, Any] | None:
    """The audits of the profile in use together, under `earlier` those of the profiles before it; None without audits.

    The errors are fractions, |predicted / measured - 1|, over random trials off the front; those of the front, which
    was chosen for its predictions, stand apart.
    """
    audits = stored.tables.audits(stored.config.name)
    profiles = [_together(list(group)) for _, group in groupby(audits, key=lambda audit: audit.profile)]
    return {**profiles[-1], "earlier": profiles[:-1]} if profiles else None


def _together(audits: Sequence[LatencyAudit]) -> dict[str, Any]:
    """Several audits of one profile as one."""
    last = audits[-1]
    sample = [model for audit in audits for model in audit.sample]
    return {
        **asdict(Agreement.of(sample)),
        "stated": {"median": last.stated_median, "q90": last.stated_q90, "networks": last.stated_networks},
        "above_stated_q90": sum(above_stated(audit) for audit in audits),
        "unstable": [
            {"trial": model.trial, "because": model.unstable_because} for model in sample if model.unstable_because
        ],
        "front": asdict(Agreement.of(last.front)),
        "finished": last.finished,
        "profile": last.profile,
        "models": [_model(model) for model in sample],
    }


def _model(model: Audited) -> dict[str, Any]:
    return {**asdict(model), "error": relative_error(model)}


def error_line(audit: dict[str, Any] | None) -> str:
    """The figures in one line."""
    if audit is None:
        return "not checked"
    if not audit["audited"]:
        said = "no random trial could be checked"
    else:
        said = f"{audit['median']:.1%} median, {audit['q90']:.1%} at 90 % of {audit['audited']} random trials"
    stated = audit["stated"]
    said += f" (stated: {stated['median']:.1%}, {stated['q90']:.1%})"
    if audit["kendall_tau"] is not None:
        said += f", Kendall tau {audit['kendall_tau']:.2f}"
    if audit["unstable"]:
        said += f"; left out as unstable: trial {', '.join(str(model['trial']) for model in audit['unstable'])}"
    times = len(audit["earlier"])
    return said + (f"; calibrated again {times} time{'s' if times > 1 else ''} during the study" if times else "")
