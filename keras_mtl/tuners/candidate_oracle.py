"""CandidateOracle: a list of candidates, each tried once, in its order."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras_tuner

from keras_mtl.tuners.resumable_oracle import ResumableOracle


class CandidateOracle(ResumableOracle):
    """Proposes given candidates in their order, each exactly once.

    Args:
        candidates: list of plain JSON data, all different.
        objective: as in `ResumableOracle`.
        max_trials: int or `None`. Tries the first so many only.
        ignored: names of entries that do not tell one candidate (a dict) from another, such as
            where it came from.
        **options: `seed`, `lease`, ... of `ResumableOracle`.

    Raises:
        TypeError: when a candidate is no plain JSON data.
        ValueError: when there are no candidates, or two are the same; on `reload`, when the search
            had others.

    Example:

    >>> from keras_mtl.tuners import CandidateOracle
    >>> oracle = CandidateOracle([{"width": 8}, {"width": 16}], "val_loss")
    >>> [oracle.propose(index) for index in range(oracle.max_trials)]
    [{'width': 8}, {'width': 16}]
    """

    def __init__(
        self,
        candidates: Sequence[Any],
        objective: str | keras_tuner.Objective,
        *,
        max_trials: int | None = None,
        ignored: Iterable[str] = (),
        **options: Any,
    ) -> None:
        if isinstance(candidates, (str, Mapping)) or not isinstance(candidates, Iterable):
            raise TypeError(f"`candidates` must be a list. Received: candidates={candidates!r}.")
        self.candidates = [_plain(candidate) for candidate in candidates]
        self.ignored = frozenset(ignored)
        number = len(self.candidates)
        if not number:
            raise ValueError("`candidates` must not be empty. Received: candidates=[].")
        first = {}
        for place, candidate in enumerate(self.candidates):
            before = first.setdefault(self._identity(candidate), place)
            if before != place:
                raise ValueError(
                    "`candidates` must all be different. Received: the same at places "
                    f"{before} and {place}."
                )
        super().__init__(objective, number if max_trials is None else max_trials, **options)
        if self.max_trials > number:
            raise ValueError(
                f"`max_trials` must be at most the number of candidates, {number}. "
                f"Received: max_trials={max_trials}."
            )

    def propose(self, index: int) -> Any:
        return self.candidates[index]

    def set_state(self, state: dict[str, Any]) -> None:
        for trial_id in state["start_order"]:
            trial = self.trials.get(trial_id)  # `None`: its file is damaged
            given = [self._identity(given) for given in self.candidates[int(trial_id) :][:1]]
            if not given or (trial and given != [self._identity(self.candidate(trial))]):
                raise ValueError(
                    "`candidates` must be those of the search that is continued; new ones come "
                    f"after them. Received: another candidate at place {int(trial_id)} than in "
                    f"{str(self.folder)!r}. Pass `overwrite=True` or another `project_name` to "
                    "begin anew."
                )
        super().set_state(state)

    def same(self, one: Any, other: Any) -> bool:
        """Whether two candidates differ at most in what is ignored."""
        return self._identity(one) == self._identity(other)

    def _identity(self, candidate):
        if isinstance(candidate, dict):
            candidate = {key: candidate[key] for key in candidate if key not in self.ignored}
        return json.dumps(candidate, sort_keys=True)


def _plain(candidate):
    try:
        return json.loads(json.dumps(candidate))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`candidates` must be plain JSON data. Received: {candidate!r} ({error})."
        ) from None
