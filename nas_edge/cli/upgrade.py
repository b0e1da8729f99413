"""`nas-edge upgrade`: a database that an older version made."""

from __future__ import annotations

from nas_edge.cli.inspect import JsonFlag
from nas_edge.cli.study import StorageOption
from nas_edge.errors import UserError


def upgrade(storage: StorageOption = None, as_json: JsonFlag = False) -> None:
    """Bring a database that an older version made to this one. SQLite files are where they are opened."""
    from nas_edge.cli.output import emit
    from nas_edge.store.database import disconnect, open_database, shown, storage_names
    from nas_edge.store.schema import SCHEMA_VERSION, prepare_tables

    if storage is None:
        raise UserError("which database? give --storage URL, or set NAS_EDGE_STORAGE")
    opened = open_database(storage, create=False, upgrade=True)
    try:
        prepare_tables(opened.engine, upgrade=True)
        names = storage_names(opened)
    finally:
        disconnect(opened)
    payload = {"storage": shown(storage), "schema_version": SCHEMA_VERSION, "studies": names}
    emit(payload, as_json, lambda: f"{shown(storage)} is of this version; it holds: {', '.join(names) or 'no study'}")
