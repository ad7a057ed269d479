"""Schedules: small functions of the step, validated when made."""

from keras import ops


class ExponentialTemperature:
    """A temperature that falls from `start` to `end` by equal factors.

    τ = start · (end / start)^(p / (phases − 1)) in phase p = floor((step − begin) / every);
    constant before `begin`, and at `end` in the last phase and after. The factor of one phase is
    *derived* from the number of phases and the end: a fixed factor (0.965 in AdaShare's code, over
    some 300 phases) would end anywhere when the search has another length.

    Args:
        start: positive float.
        end: positive float.
        begin: int. First step of the first phase.
        every: int. Steps of one phase.
        phases: int. Number of phases; the temperature is `end` in the last.

    Example:

    >>> from keras_mtl.strategies.schedules import ExponentialTemperature
    >>> schedule = ExponentialTemperature(4.0, 1.0, begin=10, every=5, phases=3)
    >>> [round(float(schedule(step)), 3) for step in (0, 10, 15, 20, 99)]
    [4.0, 4.0, 2.0, 1.0, 1.0]
    """

    def __init__(self, start, end, *, begin=0, every=1, phases=1):
        for name, value in (("start", start), ("end", end), ("every", every), ("phases", phases)):
            if value <= 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}.")
        self.start = float(start)
        self.end = float(end)
        self.begin = int(begin)
        self.every = int(every)
        self.phases = int(phases)

    @property
    def factor(self):
        """What the temperature is multiplied by from one phase to the next."""
        return (self.end / self.start) ** (1.0 / max(1, self.phases - 1))

    def __call__(self, step):
        step = ops.cast(step, "float32")
        phase = ops.floor((step - self.begin) / self.every)
        phase = ops.clip(phase, 0.0, float(max(1, self.phases - 1)))
        return self.start * ops.power(ops.cast(self.factor, "float32"), phase)

    def get_config(self):
        return {
            "start": self.start,
            "end": self.end,
            "begin": self.begin,
            "every": self.every,
            "phases": self.phases,
        }


class PolynomialTemperature:
    """A temperature that falls from `start` to `end`: τ = end + (start − end)·(1 − p)^power.

    p = step / steps, at most 1.

    Args:
        start: positive float.
        end: positive float.
        steps: positive int. Length of the schedule.
        power: positive float.

    Example:

    >>> from keras_mtl.strategies.schedules import PolynomialTemperature
    >>> schedule = PolynomialTemperature(1.0, 0.2, steps=10)
    >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 99)]
    [1.0, 0.4, 0.2, 0.2]
    """

    def __init__(self, start, end, *, steps, power=2.0):
        for name, value in (("start", start), ("end", end), ("steps", steps), ("power", power)):
            if value <= 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}.")
        self.start = float(start)
        self.end = float(end)
        self.steps = int(steps)
        self.power = float(power)

    def __call__(self, step):
        left = 1.0 - ops.cast(step, "float32") / self.steps
        left = ops.clip(left, 0.0, 1.0)
        return self.end + (self.start - self.end) * ops.power(left, self.power)

    def get_config(self):
        return dict(vars(self))
