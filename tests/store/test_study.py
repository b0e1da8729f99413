"""One study in its database and folder: making it, finding it, and what killed processes leave behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from nas_edge import StorageError, StudyMismatch, UserError
from nas_edge.store import marks, processes
from nas_edge.store.locate import locate
from nas_edge.store.marks import worker_mark
from nas_edge.store.processes import GRACE_S, HEARTBEAT_S, SUSPECTED_S, Claims, exclusively, is_dead
from nas_edge.store.requeue import requeue_dead, requeue_own
from nas_edge.store.study import StoredStudy, begun

from ..studies import tiny_config

FACTS: dict[str, Any] = {"plugins": {"search space tiny": 1}, "data": {"name": "digits"}, "target": {"name": "bench"}}


@pytest.fixture
def stored(tmp_path: Path) -> StoredStudy:
    return StoredStudy.create_or_load(tiny_config(tmp_path / "runs"), FACTS)


def begin(stored: StoredStudy, *, key: str | None = "k", mark: Any = None) -> optuna.Trial:
    trial = stored.study.ask()
    trial.suggest_int("tiny.width", 4, 19)
    if mark is not None:
        trial.set_user_attr("worker", mark)
    if key is not None:
        trial.set_user_attr("key", key)
    return trial


def dead_mark() -> dict[str, Any]:
    """The mark of a process that has ended."""
    process = subprocess.Popen(["sleep", "0"])
    mark = {**worker_mark(), "pid": process.pid}
    process.wait()
    return mark


def interrupted(*arguments: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("made", range(6))
def test_a_study_whose_making_was_cut_short_is_made_again(
    made: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended after each step of the making: the study itself, its metric names, its attributes."""
    config = tiny_config(tmp_path)
    calls = 0

    def cut_short(original: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            if calls == made:
                raise KeyboardInterrupt
            calls += 1
            return original(*arguments, **named)

        return call

    with monkeypatch.context() as patched:
        for name in ("set_metric_names", "set_user_attr"):
            patched.setattr(optuna.Study, name, cut_short(getattr(optuna.Study, name)))
        with pytest.raises(KeyboardInterrupt):
            StoredStudy.create_or_load(config, FACTS)
    study = StoredStudy.create_or_load(config, FACTS).study
    assert study.metric_names == ["accuracy", "latency_ms"]
    assert {name: study.user_attrs[name] for name in FACTS} == FACTS
    assert StoredStudy.load("tiny", config.storage_url).config.identity() == config.identity()


def test_somebody_elses_study_is_not_taken(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/other.db"
    study = optuna.create_study(study_name="tiny", storage=url, directions=["maximize", "minimize"])
    study.add_trial(optuna.trial.create_trial(values=[0.5, 1.0]))
    with pytest.raises(StudyMismatch, match="was not made by nas_edge; choose another --study"):
        StoredStudy.create_or_load(tiny_config(tmp_path, storage=url), FACTS)
    assert study.user_attrs == {} and len(study.trials) == 1


def test_a_dead_workers_trial_is_queued_again_once(stored: StoredStudy) -> None:
    trial = begin(stored, mark=dead_mark())
    alive = begin(stored, key="other", mark=worker_mark())
    assert requeue_dead(stored, stored.trials()) == 1
    failed, again = stored.trial(trial.number), stored.trial(2)
    assert (failed.state, failed.user_attrs["why"]) == (TrialState.FAIL, "its process was killed")
    assert (again.state, again.user_attrs["retry_of"]) == (TrialState.WAITING, trial.number)
    assert stored.trial(alive.number).state is TrialState.RUNNING
    assert requeue_dead(stored, stored.trials()) == 0
    assert begun(stored.trials()) == 1  # the one alive: the other is asked for again
    retried = stored.study.ask()
    assert retried.number == 2 and retried.suggest_int("tiny.width", 4, 19) == trial.params["tiny.width"]


def test_a_retry_keeps_what_the_sampler_noted_of_the_proposal(stored: StoredStudy) -> None:
    """NSGA-II notes the generation, and does not note it of parameters that are given: it would count one too few."""
    stored.study.sampler = optuna.samplers.NSGAIISampler(seed=0, population_size=4)
    begin(stored, mark=dead_mark())
    requeue_dead(stored, stored.trials())
    failed, again = stored.trials()
    generation = "NSGAIISampler:generation"
    assert again.system_attrs[generation] == failed.system_attrs[generation] == 0
    assert again.system_attrs["fixed_params"] == failed.params


def test_a_kill_between_queueing_and_failing_loses_and_doubles_nothing(
    stored: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(stored, mark=dead_mark())
    with monkeypatch.context() as patched:
        patched.setattr(stored.storage, "set_trial_user_attr", interrupted)
        with pytest.raises(KeyboardInterrupt):
            requeue_dead(stored, stored.trials())
    assert requeue_dead(stored, stored.trials()) == 1
    assert [t.state for t in stored.trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_a_trial_without_a_candidate_is_failed_alone(stored: StoredStudy) -> None:
    """It is sampled anew, the same from the same seed."""
    begin(stored, key=None, mark=dead_mark())
    requeue_dead(stored, stored.trials())
    assert [t.state for t in stored.trials()] == [TrialState.FAIL]
    assert begun(stored.trials()) == 0


def test_a_retry_that_is_killed_before_it_samples_is_queued_again(stored: StoredStudy) -> None:
    trial = begin(stored, mark=dead_mark())
    requeue_dead(stored, stored.trials())
    stored.study.ask().set_user_attr("worker", dead_mark())
    requeue_dead(stored, stored.trials())
    third = stored.trial(2)
    assert (third.state, third.user_attrs["retries"]) == (TrialState.WAITING, 2)
    assert third.system_attrs["fixed_params"] == trial.params


def test_a_trial_that_was_told_meanwhile_stays(stored: StoredStudy) -> None:
    trial = begin(stored, mark=dead_mark())
    seen = stored.trials()
    stored.study.tell(trial, [0.5, 1.0])
    requeue_dead(stored, seen)
    assert [t.state for t in stored.trials()] == [TrialState.COMPLETE]


def elsewhere(stored: StoredStudy, *, heard_s: float | None) -> optuna.Trial:
    """A trial of another machine, whose last heartbeat was so long ago."""
    trial = begin(stored, mark={**worker_mark(), "host": "elsewhere"})
    if heard_s is not None:
        stored.storage.record_heartbeat(trial._trial_id)
        with stored.storage.engine.begin() as connection:
            change = "UPDATE trial_heartbeats SET heartbeat = datetime('now', :ago) WHERE trial_id = :id"
            connection.execute(sa.text(change), {"ago": f"-{heard_s} seconds", "id": trial._trial_id})
    return trial


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """This machine's monotonic clock, as one number to be changed."""
    clock = [1000.0]
    monkeypatch.setattr("nas_edge.store.processes.time.monotonic", lambda: clock[0])
    return clock


def test_a_machine_that_fell_silent_is_dead(stored: StoredStudy, now_s: list[float]) -> None:
    trial = elsewhere(stored, heard_s=GRACE_S - 20)
    assert requeue_dead(stored, stored.trials()) == 0
    lost = elsewhere(stored, heard_s=GRACE_S + 5)
    assert requeue_dead(stored, stored.trials()) == 0, "it might be that nobody was heard"
    now_s[0] += SUSPECTED_S - 1
    assert requeue_dead(stored, stored.trials()) == 0
    now_s[0] += 1
    assert requeue_dead(stored, stored.trials()) == 1
    assert stored.trial(lost.number).user_attrs["why"] == "its machine fell silent"
    assert [t.state for t in stored.trials()] == [TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING]
    assert stored.is_told(lost) and not stored.is_told(trial)


def test_a_machine_that_was_never_heard_has_the_grace_from_now_on(stored: StoredStudy, now_s: list[float]) -> None:
    elsewhere(stored, heard_s=None)
    assert requeue_dead(stored, stored.trials()) == 0
    with stored.storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')"))
    assert requeue_dead(stored, stored.trials()) == 0
    now_s[0] += SUSPECTED_S
    assert requeue_dead(stored, stored.trials()) == 1


def test_after_an_outage_or_a_jump_of_its_clock_those_who_live_are_heard_again(
    stored: StoredStudy, now_s: list[float]
) -> None:
    trial = elsewhere(stored, heard_s=GRACE_S + 3600)
    assert requeue_dead(stored, stored.trials()) == 0
    now_s[0] += HEARTBEAT_S
    stored.storage.record_heartbeat(trial._trial_id)
    now_s[0] += SUSPECTED_S
    assert requeue_dead(stored, stored.trials()) == 0
    with stored.storage.engine.begin() as connection:  # and jumps again
        connection.execute(sa.text("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')"))
    assert requeue_dead(stored, stored.trials()) == 0, "an old suspicion does not count"


def test_a_dead_worker_is_left_to_the_one_that_replaces_it(
    stored: StoredStudy, now_s: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That knows why it died, such as of a limit that it would meet again; but it may fail to come."""
    supervisor = subprocess.Popen(["sleep", "60"])
    mark = {"pid": supervisor.pid, "started": marks._process_start(supervisor.pid), "slot": "one"}
    trial = begin(stored, mark={**dead_mark(), "supervisor": mark})
    assert is_dead(stored.trial(0)) and requeue_dead(stored, stored.trials()) == 0
    with stored.storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')"))
    assert requeue_dead(stored, stored.trials()) == 0
    now_s[0] += SUSPECTED_S
    assert requeue_dead(stored, stored.trials()) == 1 and stored.is_told(trial)
    begin(stored, mark={**dead_mark(), "supervisor": mark})
    monkeypatch.setenv("NAS_EDGE_SUPERVISOR", json.dumps({**mark, "slot": "two"}))
    assert requeue_dead(stored, stored.trials()) == 0
    monkeypatch.setenv("NAS_EDGE_SUPERVISOR", json.dumps(mark))
    assert requeue_dead(stored, stored.trials()) == 1, "this is the one"
    monkeypatch.delenv("NAS_EDGE_SUPERVISOR")
    begin(stored, mark={**dead_mark(), "supervisor": mark})
    assert requeue_dead(stored, stored.trials()) == 0
    supervisor.kill()
    supervisor.wait()
    assert requeue_dead(stored, stored.trials()) == 1, "nobody replaces it any more"


def test_a_study_is_not_gone_on_with_beside_its_folder(tmp_path: Path) -> None:
    """From another current folder with the same --storage: two artifact stores, and two locks that keep nobody out."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    config = tiny_config(tmp_path / "one", storage=url)
    StoredStudy.create_or_load(config, FACTS)
    with pytest.raises(StorageError, match="two/artifacts is not where study 'tiny' keeps its models"):
        StoredStudy.create_or_load(tiny_config(tmp_path / "two", storage=url, trials=9), FACTS)
    assert StoredStudy.create_or_load(config, FACTS).config.trials == config.trials


def test_a_worker_is_heard_while_it_works(stored: StoredStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    trial, beats = begin(stored), []
    monkeypatch.setattr(processes, "HEARTBEAT_S", 0.01)
    record = stored.storage.record_heartbeat

    def beat(trial_id: int) -> None:
        beats.append(trial_id)
        if len(beats) == 2:
            raise sa.exc.OperationalError("UPDATE", {}, Exception("database is locked"))
        record(trial_id)

    monkeypatch.setattr(stored.storage, "record_heartbeat", beat)
    with stored.working(trial):
        while len(beats) < 4:  # a busy database ends nothing
            time.sleep(0.01)
    count = len(beats)
    time.sleep(0.05)
    assert len(beats) == count and set(beats) == {trial._trial_id}


def test_who_is_dead(stored: StoredStudy) -> None:
    unmarked = begin(stored)
    frozen = stored.trial(unmarked.number)
    assert not is_dead(frozen)  # it may be marked in a moment
    frozen.datetime_start = datetime.now() - timedelta(seconds=processes.UNMARKED_GRACE_S + 1)
    assert is_dead(frozen)
    for mark, dead in (
        (worker_mark(), False),
        ({**worker_mark(), "started": "1"}, True),  # another process took the number
        (dead_mark(), True),
        ({**dead_mark(), "host": "elsewhere"}, False),
    ):
        frozen.user_attrs["worker"] = mark
        assert is_dead(frozen) is dead
    process = subprocess.Popen(["sleep", "60"])
    frozen.user_attrs["worker"] = {
        **worker_mark(),
        "pid": process.pid,
        "started": marks._process_start(process.pid),
    }
    assert not is_dead(frozen)
    process.kill()
    while marks._process_start(process.pid):  # becomes a zombie: nobody waited for it yet
        time.sleep(0.01)
    assert is_dead(frozen)
    process.wait()


def hold(file: Path, ready: Any) -> None:
    with exclusively(file):
        ready.set()
        time.sleep(60)


def test_a_killed_process_lets_go_of_the_lock(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=hold, args=(tmp_path / "lock", ready))
    process.start()
    assert ready.wait(60)
    process.kill()
    with exclusively(tmp_path / "lock"):
        process.join()


def claim(folder: Path, supervisor: dict[str, Any], ready: Any) -> None:
    os.environ[marks.SUPERVISOR] = json.dumps(supervisor)
    with Claims(folder).claimed(7) as ours:
        assert ours
        ready.set()
        time.sleep(60)


def test_a_claim_is_of_one_process_and_then_of_its_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, theirs = spawn.Event(), marks.supervisor_mark("theirs")
    process = spawn.Process(target=claim, args=(tmp_path, theirs, ready))
    process.start()
    assert ready.wait(60)
    claims = Claims(tmp_path)

    def is_free(number: int) -> bool:
        with claims.claimed(number) as ours:
            return ours

    assert [is_free(number) for number in (6, 7, 8)] == [True, False, True]
    process.kill()
    process.join()
    assert not is_free(7), "its supervisor lives, and replaces it"
    with monkeypatch.context() as patched:
        patched.setattr(processes, "HANDOVER_S", 0.0)
        assert is_free(7), "but is waited for only so long"
    (tmp_path / "7.lock").write_text(json.dumps({"supervisor": theirs}))
    monkeypatch.setenv(marks.SUPERVISOR, json.dumps(theirs))
    assert is_free(7), "the replacement"
    monkeypatch.delenv(marks.SUPERVISOR)
    assert is_free(7), "given back"
    (tmp_path / "7.lock").write_text(json.dumps({"supervisor": {**theirs, "started": "0"}}))
    assert is_free(7), "its supervisor is gone too"


def test_artifacts_are_whole_or_not_there(stored: StoredStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna notes an artifact first and then writes it: a process may end in between, or in the middle."""
    file = tmp_path / "teacher.pt"
    file.write_bytes(b"first")
    stored.upload(file, stored.study)
    file.write_bytes(b"second")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stored.upload(file, stored.study)
    assert stored.download("teacher.pt", stored.study, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"first"
    file.write_bytes(b"third")
    stored.upload(file, stored.study)
    assert stored.download("teacher.pt", stored.study, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"third"
    assert not stored.download("other.pt", stored.study, tmp_path / "none")


def test_a_study_is_found_by_name_folder_and_database(
    stored: StoredStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stored.folder
    assert (folder / "artifacts").is_dir()
    for found in (locate(str(folder), None), locate(str(folder / "study.db"), None), locate("tiny", stored.url)):
        assert found.config.name == "tiny" and found.folder == folder
    monkeypatch.chdir(tmp_path)
    assert locate("tiny", None, out="runs").folder == Path("runs")
    with pytest.raises(StorageError, match=r"no study .tiny.: looked for tiny/study.db and runs/tiny/study.db"):
        locate("tiny", None)
    with pytest.raises(UserError, match=r"there is no study .huge. in sqlite.*; it holds: tiny"):
        locate("huge", stored.url)
    assert locate("tiny", stored.url, out=str(tmp_path)).folder == tmp_path


def test_a_study_whose_database_lies_elsewhere_finds_its_files(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/databases/all.db"
    for name in ("one", "two"):
        StoredStudy.create_or_load(tiny_config(tmp_path / name, study=name, storage=url), FACTS)
    assert locate("two", url).folder == tmp_path / "two"
    with pytest.raises(UserError, match=r"holds 2 studies \(one, two\); name one with --storage"):
        locate(str(tmp_path / "databases" / "all.db"), None)


def test_the_front_is_optunas(stored: StoredStudy) -> None:
    """Against Optuna's own, with equal values, ties and trials that miss a constraint."""
    values = [(0.5, 1.0), (0.5, 1.0), (0.6, 1.0), (0.6, 2.0), (0.9, 5.0), (0.95, 9.0), (0.1, 0.5), (0.9, 6.0)]
    for number, (accuracy, latency_ms) in enumerate(values):
        trial = begin(stored, key=str(number))
        trial.set_constraint("latency_ms", latency_ms - 8.0)
        stored.study.tell(trial, [accuracy, latency_ms])
    begin(stored)
    assert [t.number for t in stored.front()] == [4, 2, 6]
    assert {t.number for t in stored.study.best_trials} == {4, 2, 6}


def test_of_equal_files_the_front_has_the_first(stored: StoredStudy) -> None:
    """A technique that was undone leaves the file of the recipe without it; equal values alone are no reason."""
    for number, (file, accuracy) in enumerate([("a", 0.9), ("b", 0.9), ("a", 0.9), ("c", 0.95), ("c", 0.95)]):
        trial = begin(stored, key=str(number))
        trial.set_user_attr("onnx_sha256", file)
        trial.set_constraint("latency_ms", -1.0)
        stored.study.tell(trial, [accuracy, 1.0 + 10 * (accuracy - 0.9)])
    assert [t.number for t in stored.front()] == [3, 0, 1]


def test_a_trial_is_marked_before_it_runs(stored: StoredStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any moment of asking, it is known whose it was; and it is asked for again."""

    def killed() -> optuna.Trial:
        assert [t.user_attrs["worker"] for t in stored.trials(TrialState.WAITING)] == [worker_mark()]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stored.study, "ask", killed)
        with pytest.raises(KeyboardInterrupt):
            stored.ask(stored.trials())
    trial = stored.ask(stored.trials())
    assert trial.number == 0 and trial.user_attrs["worker"] == worker_mark()
    requeue_own(stored, "interrupted")
    assert [t.user_attrs.get("why") for t in stored.trials()] == ["interrupted"]
    assert begun(stored.trials()) == 0
