"""What reading, building, searching and serving cost, as ratios within one run.

    python benchmarks/speed.py [--parts build steps inference] [--tasks 1 2 3 5]

Writes `benchmarks/results/speed.json` (command, machine, versions, figures) and prints the tables.
Every number of tasks is measured in a process of its own, so that peak memory is its own; the
single-task step that a ratio is taken with is measured in the same process, before and after.
Takes about 15 minutes on two cores.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "examples"))

RESULTS = pathlib.Path(__file__).parent / "results" / "speed.json"
SIZE, BATCH, STEPS = (96, 128), 4, 8
MARK = "RESULT "


def part_build(_):
    """Seconds to read a backbone and build its AdaShare supernet, median of three."""
    import keras
    import numpy as np

    import keras_mtl

    found = {}
    for name in ("ResNet50", "MobileNetV2", "EfficientNetB0", "ConvNeXtTiny"):
        backbone = getattr(keras.applications, name)(
            weights=None, include_top=False, input_shape=(128, 128, 3)
        )
        for count in (2, 5):
            tasks = [
                keras_mtl.Task(f"task{i}", keras_mtl.heads.Classifier(10), "mse")
                for i in range(count)
            ]
            reading, building, cloning = [], [], []
            for _ in range(3):
                begun = time.perf_counter()
                keras.models.clone_model(backbone)
                cloning.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                keras_mtl.graph.find_units(keras_mtl.graph.read(backbone))
                reading.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                keras_mtl.build(backbone, tasks, seed=0)
                building.append(time.perf_counter() - begun)
            found[f"{name}, {count} tasks"] = {
                "read_s": float(np.median(reading)),
                "read_and_build_s": float(np.median(building)),
                "keras_clone_model_s": float(np.median(cloning)),
            }
    return found


def network():
    """A ResNet-18 for 96x128 images."""
    from backbones import resnet

    return resnet((*SIZE, 3), width=64, stem_stride=2, name="resnet18")


def make_tasks(count, size=SIZE):
    import keras_mtl

    return [
        keras_mtl.Task(
            f"task{i}",
            keras_mtl.heads.ASPP(4, width=64, rates=(1, 3, 6), size=size),
            "mean_squared_error",
        )
        for i in range(count)
    ]


def make_data(count, batches):
    import numpy as np

    generator = np.random.default_rng(0)
    x = generator.random((BATCH * batches, *SIZE, 3), "float32")
    y = generator.random((BATCH * batches, *SIZE, 4), "float32")
    return x, {f"task{i}": y for i in range(count)}


def timed_steps():
    """A callback that keeps the seconds of every step, by epoch."""
    import keras

    class Timer(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.epochs = []

        def on_epoch_begin(self, epoch, logs=None):
            self.epochs.append([])

        def on_train_batch_begin(self, batch, logs=None):
            self.begun = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.epochs[-1].append(time.perf_counter() - self.begun)

    return Timer()


def middle(seconds):
    """Median of the steps after the first, which traces, and the second, which warms up."""
    import numpy as np

    return float(np.median(seconds[2:]))


def plain_step(strategy, count):
    """Seconds of one training step of a fixed strategy, and until the first one is done."""
    import keras_mtl

    model = keras_mtl.build(network(), make_tasks(count), strategy, seed=0)
    model.compile("sgd")
    timer = timed_steps()
    model.fit(*make_data(count, STEPS), batch_size=BATCH, verbose=0, callbacks=[timer])
    return {"step_s": middle(timer.epochs[0]), "first_step_s": timer.epochs[0][0]}


def part_steps(count):
    """Step times of every phase for one number of tasks, as ratios to K single-task steps."""
    import keras_mtl
    from keras_mtl.assembly import count as count_costs

    before = plain_step("shared", 1)
    shared = plain_step("shared", count)
    strategy = keras_mtl.strategies.AdaShare(
        warmup=1 / 9, curriculum_epochs=8, max_stages=4, alternate="epoch"
    )
    begun = time.perf_counter()
    model = keras_mtl.build(network(), make_tasks(count), strategy, seed=0)
    model.compile("sgd", "adam")
    timer = timed_steps()
    pairs = keras_mtl.data.search_split(make_data(count, 2 * STEPS), batch_size=BATCH)
    model.fit(pairs, epochs=9, verbose=0, callbacks=[timer])
    total = time.perf_counter() - begun
    after = plain_step("shared", 1)
    single = (before["step_s"] + after["step_s"]) / 2

    names = [f"task{i}" for i in range(count)]

    def trunk(opened, part="together"):
        resolve = model.search.resolve(keras_mtl.strategies.Phase("search", opened), None)
        return count_costs(model.graph, model.units, names, resolve).costs["flops"][part]

    def share(opened):
        """FLOPs of a step with so many open blocks, of K single-task steps'."""
        alone = keras_mtl.build(network(), make_tasks(1), "shared").architecture.flops()
        heads = count * (alone - trunk(0, "tasks")["task0"])
        return (trunk(opened) + heads) / (count * alone)

    found = {
        "single_step_s": single,
        "single_step_before_after_s": [before["step_s"], after["step_s"]],
        "shared": shared["step_s"] / (count * single),
        "warm_up": middle(timer.epochs[0]) / (count * single),
        "warm_up_to_shared": middle(timer.epochs[0]) / shared["step_s"],
        "first_step_s": {"single": before["first_step_s"], "shared": shared["first_step_s"]},
        "search_fit_s": total,
    }
    found["first_step_s"]["warm_up"] = timer.epochs[0][0]
    for stage, opened in enumerate((2, 4, 6, 8)):
        weights, policy = timer.epochs[1 + 2 * stage], timer.epochs[2 + 2 * stage]
        found[f"open_{opened}_weights"] = middle(weights) / (count * single)
        found[f"open_{opened}_policy"] = middle(policy) / (count * single)
        found[f"open_{opened}_predicted"] = share(opened)
        found["first_step_s"][f"open_{opened}_weights"] = weights[0]
        found["first_step_s"][f"open_{opened}_policy"] = policy[0]
    found["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


def part_memory(count):
    """Peak memory of single-task training alone, to set the search's beside."""
    plain_step("shared", count)
    return {"peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def part_inference(_):
    """Derived models against independent and shared ones: time ratio beside FLOPs ratio.

    The heads do not resize here: that has no FLOPs by the library's count, but takes its time in
    every model alike.
    """
    import numpy as np

    import keras_mtl

    tasks, backbone = make_tasks(3, size=None), network()
    generator = np.random.default_rng(0)
    units = [u.name for u in keras_mtl.graph.find_units(keras_mtl.graph.read(backbone))]
    independent = keras_mtl.build(backbone, tasks, "independent", seed=0)
    models = {"independent": independent, "shared": keras_mtl.build(backbone, tasks, "shared")}
    for kept in (0.8, 0.5):
        choices = {
            task.name: [
                "skip" if i and generator.random() > kept else "shared" for i in range(len(units))
            ]
            for task in tasks
        }
        used = sum(choice == "shared" for row in choices.values() for choice in row[1:])
        name = f"random policy, {used} of {len(tasks) * (len(units) - 1)} block uses kept"
        plan = keras_mtl.Architecture([t.name for t in tasks], units, choices)
        models[name] = keras_mtl.build(backbone, tasks, architecture=plan, seed=0)
    return inference_ratios(models)


def inference_ratios(models):
    """Time ratio of every model to the independent one, beside its FLOPs ratio."""
    import numpy as np
    import tensorflow as tf

    generator, independent = np.random.default_rng(0), models["independent"]
    found = {}
    for batch in (1, 8):
        x = tf.constant(generator.random((batch, *SIZE, 3), "float32"))
        functions = {
            name: tf.function(lambda x, m=model: m.network(x, training=False))
            for name, model in models.items()
        }
        seconds = {name: [] for name in models}
        for _ in range(5):
            for function in functions.values():
                function(x)
        for _ in range(40):  # in turn, so that a slow moment hits all of them
            for name, function in functions.items():
                begun = time.perf_counter()
                function(x)["task0"].numpy()
                seconds[name].append(time.perf_counter() - begun)
        base = np.median(seconds["independent"])
        for name, model in models.items():
            found[f"{name}, batch {batch}"] = {
                "time_ratio": float(np.median(seconds[name]) / base),
                "flops_ratio": model.architecture.flops() / independent.architecture.flops(),
                "seconds": float(np.median(seconds[name])),
            }
    return found


def measure(script, child):
    """Runs one part in a process of its own."""
    command = [sys.executable, script, "--child", *child]
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in output.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        raise RuntimeError(f"{' '.join(command)} failed:\n{output.stderr[-3000:]}")
    return json.loads(lines[-1][len(MARK) :])


def answer(figures):
    """What a part's process gives back."""
    sys.stdout.write(MARK + json.dumps(figures) + "\n")


def measure_all(script, results, parts):
    """Measures parts, name -> arguments of the process, and keeps each in a JSON file at once."""
    results.parent.mkdir(exist_ok=True)
    kept = json.loads(results.read_text()) if results.exists() else {}
    for name, child in parts.items():
        sys.stdout.write(f"measuring {name} ...\n")
        sys.stdout.flush()
        kept[name] = {
            "figures": measure(script, child),
            "command": f"python benchmarks/{pathlib.Path(script).name} " + " ".join(sys.argv[1:]),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load": os.getloadavg()[0],
            "versions": versions(),
            "date": time.strftime("%Y-%m-%d"),
        }
        results.write_text(json.dumps(kept, indent=1) + "\n")
        sys.stdout.write(json.dumps(kept[name]["figures"], indent=1) + "\n")


def versions():
    import keras
    import tensorflow as tf

    return {"keras": keras.__version__, "tensorflow": tf.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=["build", "steps", "inference"])
    parser.add_argument("--tasks", nargs="+", type=int, default=[1, 2, 3, 5])
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        part, count = arguments.child
        answer(globals()[f"part_{part}"](int(count)))
        return
    parts = {}
    for part in arguments.parts:
        for count in arguments.tasks if part in ("steps", "memory") else [0]:
            parts[f"{part}, K = {count}" if count else part] = (part, str(count))
    measure_all(__file__, RESULTS, parts)


if __name__ == "__main__":
    main()
