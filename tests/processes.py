"""Processes that are not our children: their end can be awaited all the same."""

import os
import select


def has_ended(pid: int, seconds: float = 60.0) -> bool:
    """Wait for the end of a process of this system, and return whether it came."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)
