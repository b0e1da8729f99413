"""Our own tables, beside Optuna's in the same database: what is known of a target and of the final front.

Trials are never copied here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from nas_edge.records import LatencyAudit, Measurement, Prediction
from nas_edge.store.schema import metadata, prepare_tables

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


class Tables:
    """Reads and writes our tables through an engine."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        prepare_tables(engine)

    def add_calibration(self, fingerprint: str, domain: str, profile: Mapping[str, Any]) -> None:
        values = {"fingerprint": fingerprint, "domain": domain, "created": _now(), "profile": json.dumps(profile)}
        with self._engine.begin() as connection:
            connection.execute(sa.insert(calibration_table).values(values))

    def calibration(self, fingerprint: str, domain: str) -> dict[str, Any] | None:
        """The newest profile of a target in a domain, or None."""
        table = calibration_table.c
        query = (
            sa.select(table.profile)
            .where(table.fingerprint == fingerprint, table.domain == domain)
            .order_by(table.id.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            text = connection.execute(query).scalar_one_or_none()
        return None if text is None else json.loads(text)

    def add_prediction(self, onnx_sha256: str, fingerprint: str, profile: str, prediction: Prediction) -> None:
        """Store what a profile says of a file, without the kernels. Another worker may have been quicker."""
        record = {k: v for k, v in asdict(prediction).items() if k != "kernels"}
        values = {"onnx_sha256": onnx_sha256, "fingerprint": fingerprint, "profile": profile}
        with contextlib.suppress(sa.exc.IntegrityError), self._engine.begin() as connection:
            connection.execute(sa.insert(prediction_table).values(**values, created=_now(), record=json.dumps(record)))

    def prediction(self, onnx_sha256: str, fingerprint: str, profile: str) -> Prediction | None:
        """What a profile said of a file before."""
        table = prediction_table.c
        query = sa.select(table.record).where(
            table.onnx_sha256 == onnx_sha256, table.fingerprint == fingerprint, table.profile == profile
        )
        with self._engine.connect() as connection:
            text = connection.execute(query).scalar_one_or_none()
        return None if text is None else _prediction(text)

    def predictions(self, fingerprint: str, profile: str) -> dict[str, Prediction]:
        """All that a profile said, by file."""
        table = prediction_table.c
        query = sa.select(table.onnx_sha256, table.record).where(
            table.fingerprint == fingerprint, table.profile == profile
        )
        with self._engine.connect() as connection:
            return {onnx_sha256: _prediction(text) for onnx_sha256, text in connection.execute(query)}

    def add_measurement(self, onnx_sha256: str, fingerprint: str, measurement: Measurement) -> None:
        """Store a measurement; a newer one of the same file on the same target replaces it."""
        table = measurement_table
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(table).where(table.c.onnx_sha256 == onnx_sha256, table.c.fingerprint == fingerprint)
            )
            connection.execute(
                sa.insert(table).values(
                    onnx_sha256=onnx_sha256,
                    fingerprint=fingerprint,
                    created=_now(),
                    record=json.dumps(asdict(measurement)),
                )
            )

    def measurement(self, onnx_sha256: str, fingerprint: str) -> Measurement | None:
        table = measurement_table.c
        query = sa.select(table.record).where(table.onnx_sha256 == onnx_sha256, table.fingerprint == fingerprint)
        with self._engine.connect() as connection:
            text = connection.execute(query).scalar_one_or_none()
        return None if text is None else Measurement(**json.loads(text))

    def measurements(self, fingerprint: str) -> dict[str, Measurement]:
        """All measurements on a target, by file."""
        table = measurement_table.c
        query = sa.select(table.onnx_sha256, table.record).where(table.fingerprint == fingerprint)
        with self._engine.connect() as connection:
            return {onnx_sha256: Measurement(**json.loads(text)) for onnx_sha256, text in connection.execute(query)}

    def add_audits(self, study: str, audits: Sequence[LatencyAudit]) -> None:
        """Store the audits of a study that belong together: all of them or none."""
        with self._engine.begin() as connection:
            for audit in audits:
                values = {"study": study, "created": _now(), "record": json.dumps(asdict(audit))}
                connection.execute(sa.insert(audit_table).values(values))

    def audits(self, study: str) -> list[LatencyAudit]:
        """The audits of a study, the oldest first."""
        query = sa.select(audit_table.c.record).where(audit_table.c.study == study).order_by(audit_table.c.id)
        with self._engine.connect() as connection:
            return [LatencyAudit.from_json(json.loads(text)) for text in connection.execute(query).scalars()]

    def add_final(self, study: str, trial: int, record: Mapping[str, Any]) -> None:
        """Store what the final report found of a member of the front; a newer one replaces it."""
        table = final_table
        with self._engine.begin() as connection:
            connection.execute(sa.delete(table).where(table.c.study == study, table.c.trial == trial))
            connection.execute(sa.insert(table).values(study=study, trial=trial, record=json.dumps(record)))

    def finals(self, study: str) -> dict[int, dict[str, Any]]:
        """The final records of a study by trial number."""
        query = sa.select(final_table.c.trial, final_table.c.record).where(final_table.c.study == study)
        with self._engine.connect() as connection:
            return {trial: json.loads(record) for trial, record in connection.execute(query)}


def _prediction(text: str) -> Prediction:
    record = json.loads(text)
    return Prediction(**{**record, "unsupported": tuple(record["unsupported"])})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
