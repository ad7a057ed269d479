"""Lines for people who wait: progress of long work, on standard output."""

import sys


def say(message):
    """Writes one line at once."""
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()
