"""Work done in several real processes at once, as torchrun would start them."""

import os
import pickle
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

DEADLINE = 100.0


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def variables(rank, size, port):
    """What torchrun tells a process."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    return {**{name: str(value) for name, value in names.items()}, "MASTER_ADDR": "127.0.0.1"}


def together(size, work, *, told=variables):
    """Return what `work(rank)` returned in each of `size` forks, or the error that ended it.

    A process that a signal ended gives the negative of its number, and ``SystemExit`` its code.
    Forks have all modules already: to import them again takes longer than the tests.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(size):
            path = Path(folder) / str(rank)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of a fork among threads
                child = os.fork()
            if child == 0:
                os.environ.update(told(rank, size, port))
                os._exit(_done(work, rank, path))
            children.append(child)
        codes = _ended(children)
        return [
            pickle.loads(path.read_bytes())
            if (path := Path(folder) / str(rank)).exists()
            else code
            for rank, code in enumerate(codes)
        ]


def _done(work, rank, path):
    try:
        result = work(rank)
    except SystemExit as error:
        return int(error.code)
    except BaseException as error:
        traceback.print_exc()
        try:
            result = pickle.loads(pickle.dumps(error))
        except Exception:
            result = RuntimeError(f"{type(error).__name__}: {error}")
    path.write_bytes(pickle.dumps(result))
    sys.stderr.flush()
    return 0


def _ended(children):
    """The exit codes; what has not ended in time is killed."""
    codes, end = {}, time.monotonic() + DEADLINE
    while len(codes) < len(children):
        for child in children:
            if child not in codes:
                found, status = os.waitpid(child, os.WNOHANG)
                if found:
                    codes[child] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            for child in set(children) - set(codes):
                os.kill(child, signal.SIGKILL)
            end += DEADLINE
        time.sleep(0.01)
    return [codes[child] for child in children]
