"""The command line `nas-edge`: runs a command, and turns errors into exit statuses.

0 done; 2 the user's mistake, with one line that says what to do; 1 our fault; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Sequence

from nas_edge.errors import MeasurementError, NasEdgeError, UserError
from nas_edge.store.failures import is_failure

DONE, OUR_FAULT, USERS_MISTAKE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
# How long torch's threads wait for each other by spinning (OpenMP's GOMP_SPINCOUNT, read when torch loads). The
# default, some 10 ms, makes training many times slower as soon as another process wants one of the cores.
SPIN_COUNT = "10000"
LONGEST, LONGEST_END = 1500, 400  # characters of a message
REMEDIES = {
    errno.ENOSPC: "free some space there or choose another folder",
    errno.EDQUOT: "free some of your quota there or choose another folder",
    errno.EROFS: "choose a folder on a file system that can be written",
    errno.EACCES: "change its permissions or choose another path",
    errno.EPERM: "change its permissions or choose another path",
    errno.EEXIST: "choose another path",
    errno.ENOTDIR: "choose another path",
    errno.EISDIR: "choose another path",
    errno.ENAMETOOLONG: "choose a shorter path",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    try:
        from nas_edge.cli.app import run

        status = run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _say(INTERRUPTED, "interrupted")
    except BrokenPipeError:
        _silence_stdout()
        return PIPE_CLOSED
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich ends the program so
            return PIPE_CLOSED
        raise
    except (UserError, MeasurementError) as error:
        return _say(USERS_MISTAKE, f"error: {error}")
    except NasEdgeError as error:
        return _say(OUR_FAULT, f"error: {error}")
    except OSError as error:
        if error.errno not in REMEDIES:
            return _our_fault(error)
        where = f" {error.filename!r}" if error.filename is not None else ""
        what = (error.strerror or type(error).__name__).lower()
        return _say(USERS_MISTAKE, f"error: cannot write or read{where}: {what}; {REMEDIES[error.errno]}")
    except Exception as error:
        if is_failure(error):
            from nas_edge.store.database import failure  # only here: the quick commands do without

            return _say(USERS_MISTAKE, f"error: {failure(error)}")
        return _our_fault(error)


def _say(status: int, text: str) -> int:
    with contextlib.suppress(OSError):
        print(_one_line(text), file=sys.stderr, flush=True)
    return status


def _one_line(text: str) -> str:
    """A message as a terminal may show it: names from outside can be long, and hold what moves its cursor."""
    text = " ".join(text.split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - LONGEST_END]} ... {text[-LONGEST_END:]}"  # where the remedy is
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _our_fault(error: BaseException) -> int:
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
    return _say(OUR_FAULT, f"error: this is our fault, not yours; please report the lines above: {error!r}")


def _silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere, or it would complain about the closed pipe."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
