"""`CandidateOracle`: given candidates, in their order, each once."""

import pytest

from keras_mtl.tuners import CandidateOracle, ResumableTuner

CANDIDATES = [{"name": "wide", "sizes": [8, 8]}, {"name": "deep", "sizes": [4, 4, 4]}, "third"]


class Length(ResumableTuner):
    def train(self, trial, candidate):
        self.seen.append(candidate)
        return {"val_loss": float(len(candidate))}


def search(folder, candidates=CANDIDATES, **options):
    tuner = Length(
        CandidateOracle(candidates, "val_loss", **options), directory=folder, project_name="search"
    )
    tuner.seen = []
    tuner.search(verbose=0)
    return tuner


def test_every_candidate_once_in_order(tmp_path):
    tuner = search(tmp_path)
    assert tuner.seen == CANDIDATES
    assert tuner.oracle.finished
    assert search(tmp_path).seen == []


def test_the_first_ones_and_later_the_rest(tmp_path):
    assert search(tmp_path, max_trials=2).seen == CANDIDATES[:2]
    assert search(tmp_path, [*CANDIDATES, "fourth"]).seen == ["third", "fourth"]


def test_other_candidates_are_refused(tmp_path):
    search(tmp_path, max_trials=2)
    for changed, place in ((["new", *CANDIDATES[1:]], 0), (CANDIDATES[:1], 1)):
        with pytest.raises(ValueError) as error:
            search(tmp_path, changed)
        assert str(error.value) == (
            "`candidates` must be those of the search that is continued; new ones come after them. "
            f"Received: another candidate at place {place} than in {str(tmp_path / 'search')!r}. "
            "Pass `overwrite=True` or another `project_name` to begin anew."
        )


def test_entries_that_do_not_count(tmp_path):
    def candidates(origin):
        return [{"width": width, "origin": origin} for width in (1, 2)]

    search(tmp_path, candidates("here"), max_trials=1, ignored=["origin"])
    again = search(tmp_path, candidates("there"), ignored=["origin"])
    assert again.seen == candidates("there")[1:]
    with pytest.raises(ValueError, match="must be those of the search"):
        search(tmp_path, candidates("there"))
    with pytest.raises(ValueError, match="must all be different"):
        CandidateOracle(candidates("here"), "val_loss", ignored=["width"])


@pytest.mark.parametrize(
    ("candidates", "options", "kind", "message"),
    [
        ([], {}, ValueError, "`candidates` must not be empty. Received: candidates=[]."),
        (
            [1, {"a": 1, "b": 2}, {"b": 2, "a": 1}],
            {},
            ValueError,
            "`candidates` must all be different. Received: the same at places 1 and 2.",
        ),
        (
            [1, {2}],
            {},
            TypeError,
            "`candidates` must be plain JSON data. Received: {2} (Object of type set is not JSON "
            "serializable).",
        ),
        (
            [1, 2],
            {"max_trials": 3},
            ValueError,
            "`max_trials` must be at most the number of candidates, 2. Received: max_trials=3.",
        ),
    ],
)
def test_unusable_arguments(candidates, options, kind, message):
    with pytest.raises(kind) as error:
        CandidateOracle(candidates, "val_loss", **options)
    assert str(error.value) == message


@pytest.mark.parametrize("candidates", [5, "abc", {"width": 8}])
def test_candidates_must_be_a_list(candidates):
    with pytest.raises(TypeError) as error:
        CandidateOracle(candidates, "loss")
    assert str(error.value) == f"`candidates` must be a list. Received: candidates={candidates!r}."
