"""What a process of jobs has from its first moment; nothing heavy is imported here."""

from __future__ import annotations

import os
import threading
import time

_LOOK = 0.2  # seconds between looks


def end_with(parent: int) -> None:
    """End this process when its parent has gone, so that no job goes on that nobody waits for."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
