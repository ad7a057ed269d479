"""What part a process has in a search on several machines, as its environment says."""

import os
import socket

ADDRESS, PORT, NAME = (f"KERASTUNER_{name}" for name in ("ORACLE_IP", "ORACLE_PORT", "TUNER_ID"))
ALONE, CHIEF, WORKER = "alone", "chief", "worker"


def role():
    """Returns `ALONE`, `CHIEF` or `WORKER`.

    Raises:
        ValueError: when the environment says only some of what a search on several machines needs.
    """
    names = (ADDRESS, PORT, NAME)
    if not any(name in os.environ for name in names):
        return ALONE
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        given = {name: os.environ[name] for name in names if name not in missing}
        raise ValueError(
            f"`{missing[0]}` must be set in the environment of the chief and of every worker. "
            f"Received: {given} without it. Set the address and the port at which the chief "
            f"listens and a name for each process ('chief', or any other), or none of the three "
            "for a search in one process."
        )
    port = os.environ[PORT]
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"`{PORT}` must be a number from 1 to 65535. Received: {PORT}={port!r}.")
    # As KerasTuner tells them apart.
    return CHIEF if "chief" in os.environ[NAME] else WORKER


def address():
    """Where the chief listens, for messages."""
    return f"{os.environ[ADDRESS]}:{os.environ[PORT]}"


def check_free():
    """Raises unless the chief can listen at its address.

    gRPC lets two servers listen at one port, between which the calls of workers would be divided.
    """
    host, port = os.environ[ADDRESS], int(os.environ[PORT])
    try:
        family, kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise OSError(
            f"`{ADDRESS}` and `{PORT}` must be an address of this machine and a free port where "
            f"the chief can listen. Received: {address()} ({error.strerror}). End what listens "
            "there, such as another chief, or choose another port for the chief and all workers."
        ) from None
