"""The entry of `nas-edge`: commands that try candidates run under supervision, for a candidate may take its process."""

from __future__ import annotations

import sys

from nas_edge.engine.supervised import attach, is_supervised, tell_end

SUPERVISED = ("search", "resume", "compress", "worker")


def main() -> int:
    arguments = sys.argv[1:]
    if arguments and arguments[0] in SUPERVISED and not is_supervised():
        from nas_edge.engine.supervisor import supervise

        return supervise(arguments)
    from nas_edge.cli import main as run

    attach()
    try:
        return run(arguments)
    finally:
        tell_end()


if __name__ == "__main__":
    sys.exit(main())
