"""Whether a search has been trained long enough for its policy to mean something."""

import numpy as np
from keras import ops

SHARE = 0.1  # of the epochs that a plan keeps everything open; less is hardly a search


def undertrained(search):
    """Says in words why a decision of a search means little, or returns `None`.

    A plan that has come to its end is never undertrained, and neither is a policy that was set by
    hand before any step.

    Args:
        search: `MultiTaskSearchModel`.
    """
    plan, step = search.plan, search.current_step()
    if plan is None or step == 0:
        now = [ops.convert_to_numpy(v) for v in search.policy_variables()]
        if not all(map(np.array_equal, now, search.first_policy)):
            return None
        return (
            "`decide()` reads a policy that has its first values: the search has made no step. Use "
            "`fit(keras_mtl.data.search_split((x, y)), epochs=...)` first."
        )
    epochs, steps = search.planned
    total, first = epochs * steps, plan.first_open_step
    if step >= total or step - first >= max(steps, SHARE * (total - first)):
        return None
    phase, units = plan.phase(step - 1), len(search.search.units)
    had = [plan.phase(begin).open_units for begin in range(0, step, steps)]
    last = (
        f"all {units} units had been open for {_epochs(step - first, steps)}"
        if phase.open_units == units
        else f"{phase.open_units} of {units} units were open, the first of them for "
        f"{_epochs(sum(min(steps, step - i * steps) for i, n in enumerate(had) if n), steps)}"
        if phase.open_units
        else f"none of {units} units had been open"
    )
    return (
        f"`decide()` reads a policy that has hardly been trained: the search was stopped in its "
        f"{phase.name}, after {_epochs(step, steps)} of the {epochs} that were planned, when "
        f"{last}. Go on with `fit(..., epochs={epochs}, initial_epoch={step // steps})`; "
        "`keras_mtl.callbacks.EarlyStopping` waits until all are open."
    )


def _epochs(steps, per_epoch):
    number = steps / per_epoch
    return f"{number:.3g} epoch" + ("" if number == 1 else "s")
