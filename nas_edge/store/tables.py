"""Our own tables, beside Optuna's in the same database: what is known of a target and of the final front.

Trials are never copied here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from nas_edge.records import LatencyAudit, Measurement, Prediction
from nas_edge.store.rows import Rows
from nas_edge.store.schema import metadata

LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")

calibration_table = sa.Table(
    "nas_edge_calibrations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False, index=True),
    sa.Column("domain", sa.String(200), nullable=False),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("profile", LONG_TEXT, nullable=False),
)
prediction_table = sa.Table(
    "nas_edge_predictions",
    metadata,
    sa.Column("onnx_sha256", sa.String(64), primary_key=True),
    sa.Column("fingerprint", sa.String(64), primary_key=True),
    sa.Column("profile", sa.String(64), primary_key=True),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("record", sa.Text, nullable=False),
)
measurement_table = sa.Table(
    "nas_edge_measurements",
    metadata,
    sa.Column("onnx_sha256", sa.String(64), primary_key=True),
    sa.Column("fingerprint", sa.String(64), primary_key=True),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("record", sa.Text, nullable=False),
)
final_table = sa.Table(
    "nas_edge_finals",
    metadata,
    sa.Column("study", sa.String(200), primary_key=True),
    sa.Column("trial", sa.Integer, primary_key=True),
    sa.Column("record", sa.Text, nullable=False),
)
audit_table = sa.Table(
    "nas_edge_audits",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.String(200), nullable=False, index=True),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("record", LONG_TEXT, nullable=False),
)
# `ticket` is odd while a turn is held, and rises by one whenever it is taken or given back.
turn_table = sa.Table(
    "nas_edge_turns",
    metadata,
    sa.Column("study", sa.String(200), primary_key=True),
    sa.Column("ticket", sa.Integer, nullable=False),
)


def trained_longer(final: Mapping[str, Any] | None) -> bool:
    """Whether the file that ships is of the longer training at the end, by its row of the finals, if it has one."""
    return bool(final and final["final"])


class Tables:
    """What the rows of our tables mean."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def add_calibration(self, fingerprint: str, domain: str, profile: Mapping[str, Any]) -> None:
        row = {"fingerprint": fingerprint, "domain": domain, "created": _now(), "profile": json.dumps(profile)}
        self.rows.insert(calibration_table.name, [row])

    def calibration(self, fingerprint: str, domain: str) -> dict[str, Any] | None:
        """The newest profile of a target in a domain, or None."""
        where = {"fingerprint": fingerprint, "domain": domain}
        found = self.rows.select(calibration_table.name, ["profile"], where, "id")
        return json.loads(found[-1][0]) if found else None

    def calibrations(self, fingerprint: str) -> list[dict[str, Any]]:
        """All profiles of a target, of any domain, the newest first."""
        found = self.rows.select(calibration_table.name, ["profile"], {"fingerprint": fingerprint}, "id")
        return [json.loads(text) for (text,) in reversed(found)]

    def add_prediction(self, onnx_sha256: str, fingerprint: str, profile: str, prediction: Prediction) -> None:
        """Store what a profile says of a file, without the kernels. Another worker may have been quicker."""
        record = {k: v for k, v in asdict(prediction).items() if k != "kernels"}
        row = {"onnx_sha256": onnx_sha256, "fingerprint": fingerprint, "profile": profile, "created": _now()}
        self.rows.insert(prediction_table.name, [{**row, "record": json.dumps(record)}])

    def prediction(self, onnx_sha256: str, fingerprint: str, profile: str) -> Prediction | None:
        """What a profile said of a file before."""
        where = {"onnx_sha256": onnx_sha256, "fingerprint": fingerprint, "profile": profile}
        found = self.rows.select(prediction_table.name, ["record"], where)
        return _prediction(found[0][0]) if found else None

    def predictions(self, fingerprint: str, profile: str | None = None) -> dict[str, Prediction]:
        """All that a profile said, by file; without one, what was said last."""
        where = {"fingerprint": fingerprint, **({} if profile is None else {"profile": profile})}
        found = self.rows.select(prediction_table.name, ["onnx_sha256", "record"], where, "created")
        return {onnx_sha256: _prediction(text) for onnx_sha256, text in found}

    def add_measurement(self, onnx_sha256: str, fingerprint: str, measurement: Measurement) -> None:
        """Store a measurement; a newer one of the same file on the same target replaces it."""
        where = {"onnx_sha256": onnx_sha256, "fingerprint": fingerprint}
        row = {"created": _now(), "record": json.dumps(asdict(measurement))}
        self.rows.replace(measurement_table.name, where, row)

    def measurement(self, onnx_sha256: str, fingerprint: str) -> Measurement | None:
        where = {"onnx_sha256": onnx_sha256, "fingerprint": fingerprint}
        found = self.rows.select(measurement_table.name, ["record"], where)
        return Measurement(**json.loads(found[0][0])) if found else None

    def measurements(self, fingerprint: str) -> dict[str, Measurement]:
        """All measurements on a target, by file."""
        found = self.rows.select(measurement_table.name, ["onnx_sha256", "record"], {"fingerprint": fingerprint})
        return {onnx_sha256: Measurement(**json.loads(text)) for onnx_sha256, text in found}

    def add_audits(self, study: str, audits: Sequence[LatencyAudit]) -> None:
        """Store the audits of a study that belong together: all of them or none."""
        rows = [{"study": study, "created": _now(), "record": json.dumps(asdict(audit))} for audit in audits]
        self.rows.insert(audit_table.name, rows)

    def audits(self, study: str) -> list[LatencyAudit]:
        """The audits of a study, the oldest first."""
        found = self.rows.select(audit_table.name, ["record"], {"study": study}, "id")
        return [LatencyAudit.from_json(json.loads(text)) for (text,) in found]

    def add_final(self, study: str, trial: int, record: Mapping[str, Any]) -> None:
        """Store what the final report found of a member of the front; a newer one replaces it."""
        self.rows.replace(final_table.name, {"study": study, "trial": trial}, {"record": json.dumps(record)})

    def finals(self, study: str) -> dict[int, dict[str, Any]]:
        """The final records of a study by trial number."""
        found = self.rows.select(final_table.name, ["trial", "record"], {"study": study})
        return {trial: json.loads(record) for trial, record in found}


def _prediction(text: str) -> Prediction:
    record = json.loads(text)
    return Prediction(**{**record, "unsupported": tuple(record["unsupported"])})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
