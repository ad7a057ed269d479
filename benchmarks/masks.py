"""How near channel masks come to random partitions, and how fast they are found.

    python benchmarks/masks.py [--cases 3x64 5x256 9x256 20x256] [--draws 200] [--proof]

P is uniformly random: `numpy.random.default_rng(seed).random((tasks, tasks))`, draw after draw.
Errors are |MᵀM/C - P̃| over the upper triangle with its diagonal, all draws together. Beside ours
stand a greedy solver in the manner of the paper (`greedy_masks.py`, 100 draws a task), the
relaxation that ours rounds, and, up to 9 tasks, the least mean that fractions of channels can have
at all, by linear programming. What is reached differs from seed to seed: the tables are of seed 0,
`mean_by_seed` shows the others too, and `mean_of_seeds` their mean. `--proof` bounds the mean of
whole channels from below, by integer programming, for 5 tasks and seed 0. Times are of the process
with one BLAS thread and with the default: on the clock, of the processor, and the fastest of three
calls for one P, medians over the draws.
Writes `benchmarks/results/masks.json` and prints it. Takes about 20 minutes on two cores.
"""

import argparse
import os
import sys
import time

import speed

RESULTS = speed.RESULTS.with_name("masks.json")
# By tasks x channels: mean |error|, its 95 % quantile, ratio of means to greedy, milliseconds.
TO_REACH = {
    "3x64": {"mean": 0.0058},
    "5x256": {"mean": 0.0046, "ms": 1.0},
    "9x256": {"mean": 0.0115, "quantile_95": 0.038, "ms": 10.0},
    "20x256": {"ratio_to_greedy": 0.7, "ms": 1000.0},
}
GREEDY_DRAWS, EXACT_DIAGONAL = 100, 1000.0


def partitions(tasks, seed, draws):
    import numpy as np

    generator = np.random.default_rng(seed)
    return [generator.random((tasks, tasks)) for _ in range(draws)]


def summary(errors):
    """Figures of errors `(draws, tasks, tasks)`, of which the upper triangle counts."""
    import numpy as np

    tasks = errors.shape[1]
    rows, columns = np.triu_indices(tasks)
    errors = np.abs(errors[:, rows, columns])
    by_draw = errors.mean(axis=1)
    found = {
        "mean": errors.mean(),
        "standard_error_of_mean": by_draw.std() / np.sqrt(len(by_draw)),
        "median": np.median(errors),
        "quantile_95": np.quantile(errors, 0.95),
        "largest": errors.max(),
        "mean_of_diagonal": errors[:, rows == columns].mean(),
        "mean_of_overlaps": errors[:, rows != columns].mean(),
    }
    return {name: float(value) for name, value in found.items()}


def relaxed_errors(targets):
    """Errors of the fractions of channels that our masks are rounded from."""
    import numpy as np

    from keras_mtl.partition import _fit
    from keras_mtl.partition._patterns import entries
    from keras_mtl.partition._problem import Problem

    upper = entries(targets.shape[1])
    errors = np.zeros_like(targets)
    for target, error in zip(targets, errors, strict=True):
        whole = np.ones((1, len(target)))
        problem = Problem(target[upper], np.ones(len(upper[0])), whole, np.array([1]))
        _, columns = _fit.relaxed(problem, np.random.default_rng(0))
        error[upper] = columns.achieved() - target[upper]
    return errors


def least_mean(targets, channels=None, seconds=3.0):
    """A mean |error| that no masks can beat: of fractions, or of whole numbers of channels."""
    import numpy as np
    from scipy.optimize import LinearConstraint, milp

    from keras_mtl.partition._patterns import all_patterns, entries

    tasks = targets.shape[1]
    values = all_patterns(tasks)[1]
    count, size = values.shape
    scale = channels or 1
    matrix = np.zeros((size + 1, count + 2 * size))
    matrix[:size] = np.hstack([values.T, np.eye(size), -np.eye(size)])
    matrix[size, :count] = 1
    cost = np.r_[np.zeros(count), np.ones(2 * size)]
    bounds = []
    for target in targets:
        goal = np.r_[target[entries(tasks)], 1.0] * scale
        found = milp(
            cost,
            constraints=LinearConstraint(matrix, goal, goal),
            integrality=np.r_[np.full(count, float(channels is not None)), np.zeros(2 * size)],
            options={"time_limit": seconds},
        )
        bound = found.fun if channels is None else found.mip_dual_bound
        bounds.append(bound / scale / size)
    return float(np.mean(bounds))


def times(tasks, channels, draws):
    """Milliseconds a mask, and of the first call of the process."""
    import numpy as np

    from keras_mtl.partition import find_masks

    clock, processor, fastest = [], [], []
    for P in partitions(tasks, 0, draws):
        begun, used = time.perf_counter(), time.process_time()
        find_masks(P, channels, 0)
        clock.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
        again = [clock[-1]]
        for _ in range(2):
            begun = time.perf_counter()
            find_masks(P, channels, 0)
            again.append(time.perf_counter() - begun)
        fastest.append(min(again))
    return {
        "first_call_ms": 1e3 * clock[0],
        "clock_ms": 1e3 * float(np.median(clock[1:])),
        "processor_ms": 1e3 * float(np.median(processor[1:])),
        "fastest_of_3_ms": 1e3 * float(np.median(fastest[1:])),
        "slowest_draw_fastest_of_3_ms": 1e3 * max(fastest[1:]),
        "load": os.getloadavg()[0],
    }


def part_case(tasks, channels, draws, seeds):
    """Errors of every solver, for one number of tasks and channels."""
    import numpy as np
    from greedy_masks import greedy_masks

    from keras_mtl.partition import find_masks, mask_error, partition_matrix

    def ours(seed, **options):
        return np.array(
            [
                mask_error(find_masks(P, channels, i, **options), partition_matrix(P))
                for i, P in enumerate(partitions(tasks, seed, draws))
            ]
        )

    targets = np.array([partition_matrix(P) for P in partitions(tasks, 0, draws)])
    generator, greedy, seconds = np.random.default_rng(1), [], []
    for target in targets:
        begun = time.perf_counter()
        masks = greedy_masks(target, channels, GREEDY_DRAWS, generator)
        seconds.append(time.perf_counter() - begun)
        greedy.append(mask_error(masks, target))
    found = {
        "one_blas_thread": times(tasks, channels, min(draws, 100)),
        "ours": summary(ours(0)),
        "ours_diagonal_weight_1000": summary(ours(0, diagonal_weight=EXACT_DIAGONAL)),
        "relaxation_that_ours_rounds": summary(relaxed_errors(targets)),
        "greedy": summary(np.array(greedy)) | {"clock_ms": 1e3 * float(np.median(seconds))},
    }
    if tasks <= 9:
        found["least_mean_of_any_fractions"] = least_mean(targets)
        by_seed = [summary(ours(seed)) for seed in range(seeds)]
        for name in ("mean", "quantile_95"):
            found[f"{name}_by_seed"] = [one[name] for one in by_seed]
            found[f"{name}_of_seeds"] = float(np.mean(found[f"{name}_by_seed"]))
    found["ratio_to_greedy"] = found["ours"]["mean"] / found["greedy"]["mean"]
    to_reach = TO_REACH.get(f"{tasks}x{channels}", {})
    fastest = {"ms": found["one_blas_thread"]["fastest_of_3_ms"]}
    reached = found["ours"] | fastest | {"ratio_to_greedy": found["ratio_to_greedy"]}
    found["reached"] = {
        name: {"is": reached[name], "at_most": least, "yes": reached[name] <= least}
        for name, least in to_reach.items()
    }
    return found


def part_proof(draws):
    """For 5 tasks and 256 channels, a mean that no solver can beat on the draws of seed 0."""
    import numpy as np

    from keras_mtl.partition import partition_matrix

    targets = np.array([partition_matrix(P) for P in partitions(5, 0, draws)])
    return {"no_masks_have_a_lower_mean_than": least_mean(targets, channels=256)}


def answer_child(kind, threads, numbers):
    if threads != "default":
        for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
            os.environ[name] = threads  # read when NumPy is first imported
    part = {"case": part_case, "times": times, "proof": part_proof}[kind]
    speed.answer(part(*map(int, numbers)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=list(TO_REACH))
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--proof", action="store_true")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, threads, *numbers = arguments.child
        answer_child(kind, threads, numbers)
        return
    parts, draws = {}, str(arguments.draws)
    for case in arguments.cases:
        size = case.split("x")
        name = f"{size[0]} tasks, {size[1]} channels"
        parts[name] = ["case", "1", *size, draws, str(arguments.seeds)]
        parts[f"{name}, default BLAS threads"] = ["times", "default", *size, "50"]
    if arguments.proof:
        parts["proof, 5 tasks, 256 channels"] = ["proof", "1", draws]
    speed.measure_all(__file__, RESULTS, parts)


if __name__ == "__main__":
    sys.exit(main())
