"""Which errors mean that a database failed, or the way to it. By name, so that quick commands load neither."""

from __future__ import annotations

KINDS = {"sqlalchemy.exc.SQLAlchemyError", "optuna.exceptions.StorageInternalError", "grpc.RpcError"}


def is_failure(error: BaseException) -> bool:
    return any(f"{kind.__module__}.{kind.__name__}" in KINDS for kind in type(error).__mro__)


def reason_of(error: BaseException) -> str:
    """What the database said, in one line."""
    cause = error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    details = getattr(cause, "details", None)  # gRPC's own text is a page
    text = str(details() if callable(details) else cause).strip()
    return text.splitlines()[0] if text else type(cause).__name__
