"""`nas-edge dashboard`: a study in Optuna Dashboard."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_edge.cli.study import StorageOption, StudyArgument
from nas_edge.errors import UserError


def dashboard(
    study: StudyArgument,
    port: Annotated[int, typer.Option(help="Port on loopback.")] = 8080,
    storage: StorageOption = None,
) -> None:
    """Open a study in Optuna Dashboard, on this machine alone."""
    try:
        import optuna_dashboard
    except ImportError:
        raise UserError("Optuna Dashboard is not installed; `pip install 'nas-edge[dashboard]'` installs it") from None
    from nas_edge.cli.output import console
    from nas_edge.store.study import locate

    stored = locate(study, storage)
    console.print(f"http://127.0.0.1:{port}/  (Ctrl-C ends it)")
    try:
        optuna_dashboard.run_server(stored.storage, host="127.0.0.1", port=port, artifact_store=stored.artifacts)
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} cannot be used: {error}; choose another --port") from None
