"""`nas-edge dashboard`: a study in Optuna Dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas_edge.cli.study import StorageOption, StudyArgument, located
from nas_edge.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.simple_server import WSGIServer

HOST = "127.0.0.1"


def dashboard(
    study: StudyArgument,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 for any that is free.")] = 8080,
    storage: StorageOption = None,
) -> None:
    """Open a study in Optuna Dashboard, on this machine alone. Ctrl-C ends it."""
    try:
        import optuna_dashboard  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise UserError(f"the dashboard needs {error.name}; `pip install 'nas-edge[dashboard]'` installs it") from None
    from nas_edge.cli.output import console
    from nas_edge.report.dashboard import dashboard_app
    from nas_edge.report.study_pages import page_of

    stored = located(study, storage)
    stored.check_artifacts()
    with _server(dashboard_app(stored), port) as server:
        console.print(f"http://{HOST}:{server.server_port}{page_of(stored)}  (Ctrl-C ends it)", soft_wrap=True)
        server.serve_forever()


def _server(app: Callable[..., object], port: int) -> WSGIServer:
    """A server of this machine alone, a thread a request. Raises `UserError` where the port cannot be had."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            """Requests are nobody's business; faults are said by the application."""

    try:
        return make_server(HOST, port, app, server_class=Server, handler_class=Quiet)  # type: ignore[arg-type]
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} cannot be used: {error}; choose another --port") from None
