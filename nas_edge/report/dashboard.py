"""Optuna Dashboard over a study: its own pages, with our notes, pictures and limits, and without our internals.

Nothing of this is stored. Notes in the database would cost a search a write a trial and the dashboard the square of
their number, would fall behind what is known, and could not be had with read access alone. So what is served is changed
on its way: a plugin of Bottle, which Optuna Dashboard is made with, completes the answers of its interface.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import optuna_dashboard
from bottle import Bottle, HTTPResponse, Route, abort, request

from nas_edge.errors import NasEdgeError
from nas_edge.report.study_pages import StudyPages
from nas_edge.store.study import StoredStudy

View = Callable[..., Any]

PAGE, STUDIES, STUDY = "/dashboard<:re:(/.*)?>", "/api/studies", "/api/studies/<study_id:int>"
NOTES = (f"{STUDY}/note", f"{STUDY}/<trial_id:int>/note")
ARTIFACT = "/<artifact_id:re:[0-9a-fA-F-]+>"
ARTIFACTS = (f"/artifacts/<study_id:int>{ARTIFACT}", f"/artifacts/<study_id:int>/<trial_id:int>{ARTIFACT}")
# A page of another site must not reach this one by a name that it lets point here.
LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
# The buttons that would be refused, by their icons: to create, delete, rename, fail and upload.
HIDDEN = ("AddBox", "Delete", "DriveFileRenameOutline", "StopCircle", "UploadFile")
REFUSED = [f"button:has([data-testid={icon}Icon])" for icon in HIDDEN]
REFUSED.append(".MuiCard-root:has(> button [data-testid=UploadFileIcon])")  # which would be an empty card
STYLE = f"<style>{', '.join(REFUSED)} {{ display: none }}</style>"


def dashboard_app(stored: StoredStudy) -> Bottle:
    """Optuna Dashboard over the storage of a study, as a WSGI application."""
    app: Bottle = optuna_dashboard.wsgi(stored.storage, artifact_store=stored.artifacts)
    app.add_hook("before_request", _refuse_strangers)
    app.install(Completing(stored))
    return app


def _refuse_strangers() -> None:
    host = request.get_header("Host", "")
    if not LOOPBACK.fullmatch(host):
        abort(403, f"the dashboard is for this machine alone, not for {host!r}: open http://127.0.0.1:PORT/")


class Completing:
    """The plugin of Bottle: completes what is read of our studies, and lets nothing be written but notes."""

    name, api = "nas_edge", 2

    def __init__(self, stored: StoredStudy) -> None:
        self._stored = stored
        self._pages: dict[int, StudyPages | None] = {stored.study._study_id: StudyPages(stored)}
        self._lock = threading.Lock()

    def apply(self, callback: View, route: Route) -> View:
        if route.method != "GET":
            return callback if route.rule in NOTES else _refused
        completed: dict[str, View] = {PAGE: _without_refused, STUDIES: self._studies, STUDY: self._study}
        completed |= dict.fromkeys(ARTIFACTS, self._artifact)
        return partial(completed[route.rule], callback) if route.rule in completed else callback

    def _studies(self, callback: View) -> Any:
        answer = callback()
        for listed in answer.get("study_summaries", ()):
            if pages := self._pages_of(listed["study_id"], listed["study_name"]):
                listed["user_attrs"] = pages.facts
        return answer

    def _study(self, callback: View, study_id: int) -> Any:
        answer = callback(study_id=study_id)
        if isinstance(answer, dict) and (pages := self._pages_of(study_id, answer.get("name", ""))):
            pages.complete(answer)
        return answer

    def _artifact(self, callback: View, study_id: int, artifact_id: str, trial_id: int | None = None) -> Any:
        pages = self._pages.get(study_id)
        if pages is None:
            given = {} if trial_id is None else {"trial_id": trial_id}
            return callback(study_id=study_id, artifact_id=artifact_id, **given)
        return pages.artifact(trial_id, artifact_id)

    def _pages_of(self, study_id: int, name: str) -> StudyPages | None:
        """Those of one of our studies; None for another's, which is shown as it is."""
        with self._lock:
            if study_id not in self._pages:
                try:
                    found = StoredStudy.load(name, self._stored.url, self._stored.storage)
                    self._pages[study_id] = StudyPages(found.at(_folder(found, self._stored)))
                except NasEdgeError:
                    self._pages[study_id] = None
            return self._pages[study_id]


def _folder(study: StoredStudy, shown: StoredStudy) -> str:
    """Where the files of a study are that lies in the database of the one shown: beside its, wherever those are now."""
    kept, base = (str(one.study.user_attrs.get("folder", "")) for one in (study, shown))
    return str(shown.folder) + kept[len(base) :] if base and f"{kept}/".startswith(f"{base}/") else str(study.folder)


def _without_refused(callback: View) -> HTTPResponse:
    """The page that all others are made in, without the buttons that would be refused."""
    request.environ.pop("HTTP_IF_MODIFIED_SINCE", None)  # or a page that the browser has kept would do
    answer = callback()
    with answer.body as file:
        text = file.read().decode().replace("</head>", f"{STYLE}</head>")
    kept = ("Content-Type", "Content-Security-Policy")
    return HTTPResponse(text, 200, {name: answer.headers[name] for name in kept if name in answer.headers})


def _refused(**_: Any) -> HTTPResponse:
    reason = "nas-edge dashboard shows studies, and changes nothing but notes"
    return HTTPResponse({"reason": reason}, 403)
