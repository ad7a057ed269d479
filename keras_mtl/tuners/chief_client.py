"""ChiefClient: a worker's line to the chief, which outlives a chief that dies and comes back."""

import time

import grpc
import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_mtl.tuners.distribution import address
from keras_mtl.tuners.progress import duration

_ANSWER_SECONDS = 60.0  # of a call, so that a machine that is gone is noticed too
_HEARTBEAT_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class ChiefError(keras_tuner.errors.FatalError, ConnectionError):
    """The chief does not answer, or with an error; ends a worker's search."""


class ChiefClient:
    """Asks the chief's oracle, and waits for a chief that does not answer.

    KerasTuner's client raises gRPC's error at once when the chief dies during a call, and waits for
    an hour, in silence, when it is gone before. All calls here may be made again: a worker that
    asks for a trial again gets its own, and only the first end of a trial counts.

    Args:
        connect: function of nothing that makes KerasTuner's client, with a channel of its own.
        timeout: float. How many seconds a call waits for the chief in all.
        has_ended: function of nothing. Whether the search's files say that all trials have ended:
            then nobody waits for a chief, that has left.
        say: function of a line.
    """

    def __init__(self, connect, timeout, has_ended, say):
        self._connect = connect
        self._timeout = timeout
        self._has_ended = has_ended
        self._say = say
        self._silent_since = None
        self._client = self._connected()

    def __getattr__(self, name):
        return getattr(self._client, name)

    def create_trial(self, tuner_id):
        return self._ask("create_trial", tuner_id)

    def get_trial(self, trial_id):
        return self._ask("get_trial", trial_id)

    def end_trial(self, trial):
        return self._ask("end_trial", trial)

    def update_trial(self, trial_id, metrics, step=0):
        if metrics:
            return self._ask("update_trial", trial_id, metrics, step)
        try:  # a sign of life, for which no training stops
            return self._asked(_HEARTBEAT_SECONDS, "update_trial", trial_id, metrics, step)
        except TimeoutError:
            self._note_silence("The trial goes on without it.")
            return Trial(keras_tuner.HyperParameters(), trial_id, TrialStatus.RUNNING)

    def _ask(self, name, *arguments):
        end = time.monotonic() + self._timeout
        while True:
            try:
                left = max(end - time.monotonic(), _RETRY_SECONDS)
                return self._asked(min(_ANSWER_SECONDS, left), name, *arguments)
            except TimeoutError:
                pass
            if self._has_ended():
                self._say("All trials of the search have ended, and its chief has left.")
                return Trial(keras_tuner.HyperParameters(), "", TrialStatus.STOPPED)
            if time.monotonic() >= end:
                raise ChiefError(
                    f"The chief at {address()} must answer within {duration(self._timeout)} "
                    "(`chief_timeout`). Received: no answer. Start the chief at that address with "
                    "the same `directory` and `project_name`, then this worker: the search goes on."
                )
            self._note_silence(f"Waiting for it, {duration(self._timeout)} at most.")
            time.sleep(min(_RETRY_SECONDS, max(end - time.monotonic(), 0.0)))

    def _asked(self, seconds, name, *arguments):
        """One call; raises `TimeoutError` when nobody answers."""
        self._client.stub.seconds = seconds
        try:
            answer = getattr(self._client, name)(*arguments)
        except grpc.RpcError as error:
            if error.code() not in _SILENT:
                raise ChiefError(
                    f"The chief at {address()} must answer {name!r}. Received: its error "
                    f"{error.details()!r} ({error.code().name}). What happened there is in its "
                    "output; mend it, start the chief again, then this worker."
                ) from None
            # A channel that has failed waits longer and longer before it tries again.
            self._client = self._connected()
            raise TimeoutError from None
        if self._silent_since is not None:
            silent = duration(time.monotonic() - self._silent_since)
            self._say(f"The chief at {address()} answers again, after {silent}.")
            self._silent_since = None
        return answer

    def _note_silence(self, what):
        if self._silent_since is None:
            self._silent_since = time.monotonic()
            self._say(f"The chief at {address()} does not answer. {what}")

    def _connected(self):
        client = self._connect()
        client.stub = _Stub(client.stub)
        return client


class _Stub:
    """KerasTuner's stub, but a call ends at once where nobody listens, and after some seconds."""

    def __init__(self, stub):
        self._stub = stub
        self.seconds = _ANSWER_SECONDS

    def __getattr__(self, name):
        method = getattr(self._stub, name)
        return lambda request, **_: method(request, wait_for_ready=False, timeout=self.seconds)
