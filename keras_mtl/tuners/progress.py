"""Progress: one line for each trial of a search, with the time that is left."""

from time import monotonic


class Progress:
    """Measures how fast trials end, in this process, and says it.

    Args:
        total: int. Number of trials of the whole search.
    """

    def __init__(self, total):
        self.total = total
        self._began = None
        self._ended = 0

    def begin(self):
        """The first trial of this process begins; later calls change nothing."""
        self._began = monotonic() if self._began is None else self._began

    def line(self, trial, name, best, done):
        """The line of a trial that has ended.

        Args:
            trial: the KerasTuner `Trial`.
            name: string. The objective.
            best: the best `Trial` so far, or `None`.
            done: int. How many trials of the search have ended.
        """
        self.begin()
        self._ended += 1
        text = f"Trial {int(trial.trial_id) + 1} of {self.total}: "
        if trial.score is None:
            text += "failed"
            if trial.message:
                text += f" ({_last_line(trial.message)})"
        else:
            text += f"{name} {trial.score:.5g}"
        if best is not None and best.trial_id != trial.trial_id:
            text += f" (best {best.score:.5g}, trial {int(best.trial_id) + 1})"
        seconds = monotonic() - self._began
        left = self.total - done
        if left <= 0:
            return f"{text}; all done, the last {self._ended} in {duration(seconds)}"
        return f"{text}; {left} more, about {duration(seconds / self._ended * left)} left"


def failures(trials):
    """The sentence of a search without a score.

    Args:
        trials: list of the number of each trial that has ended, from 0, and of its message.
    """
    if not trials:
        return "`search` must have trained a candidate first. Received: no result."
    said = [
        f"{index + 1} ({_last_line(message) or 'without a message'})" for index, message in trials
    ]
    more = f" and {len(said) - 3} more" if len(said) > 3 else ""
    return (
        "A trial must have a finite objective to be the best. Received: only failures, of trial "
        f"{', '.join(said[:3])}{more}. Look at the learning rate, the data and the objective of "
        "these, and begin anew with `overwrite=True` or another `project_name`."
    )


def _last_line(message):
    return ((message or "").strip().splitlines() or [""])[-1].rstrip(".")


def duration(seconds):
    """A number of seconds for readers: `"40 s"`, `"12 min"`, `"3.5 h"`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
