"""What a search of MTL-NAS costs on VGG16 columns, and what its networks cost to run.

    python benchmarks/mtl_nas.py

Two tasks. Steps are in units of K single-task steps of the same network, in turn in one process;
inference in units of K single-task networks, beside the ratio of FLOPs. The published code, on the
same ratios: weights 1.42, policy 1.62, inference 1.57 whatever it had decided. Writes
`benchmarks/results/mtl_nas.json`. Takes about 10 minutes on two cores.
"""

import argparse
import dataclasses
import resource
import sys

import speed

RESULTS = speed.RESULTS.with_name("mtl_nas.json")
TASKS = 2
ROUNDS, STEPS = 6, 4


def backbone():
    """Keras' VGG16 for 96x128 images."""
    import keras

    return keras.applications.VGG16(weights=None, include_top=False, input_shape=(*speed.SIZE, 3))


def single_step():
    """Seconds of one training step of one task's network."""
    import keras_mtl

    model = keras_mtl.build(backbone(), speed.make_tasks(1), "shared", seed=0)
    model.compile("sgd")
    timer = speed.timed_steps()
    model.fit(
        *speed.make_data(1, speed.STEPS), batch_size=speed.BATCH, verbose=0, callbacks=[timer]
    )
    return speed.middle(timer.epochs[0])


def one_group(updates):
    """The strategy with steps that make one of the two updates only, so that each has its time."""
    from keras_mtl.strategies import MTLNAS
    from keras_mtl.strategies.mtl_nas import MTLNASPlan, MTLNASSearch

    class OnePlan(MTLNASPlan):
        def phase(self, step):
            return dataclasses.replace(super().phase(step), updates=(updates,))

    class OneSearch(MTLNASSearch):
        def plan(self, epochs, steps_per_epoch):
            return OnePlan(self.strategy, len(self.units), epochs * steps_per_epoch)

    class One(MTLNAS):
        def open(self, graph, units, tasks, seed):
            return OneSearch(self, graph, units, tasks)

    return One()


def part_search():
    """Times of weights and policy updates, as ratios; in turn, so that load hits all of them."""
    import numpy as np

    import keras_mtl

    single = keras_mtl.build(backbone(), speed.make_tasks(1), "shared", seed=0)
    models = {"single": single}
    fed = {"single": {"batch_size": speed.BATCH}}
    fed["single"]["x"], fed["single"]["y"] = speed.make_data(1, STEPS)
    pairs = keras_mtl.data.search_split(speed.make_data(TASKS, 2 * STEPS), batch_size=speed.BATCH)
    for group in ("weights", "policy"):
        tasks = speed.make_tasks(TASKS)
        models[group] = keras_mtl.build(backbone(), tasks, one_group(group), seed=0)
        fed[group] = {"x": pairs}
    timers = {name: speed.timed_steps() for name in models}
    for model in models.values():
        model.compile("sgd")
    for _ in range(ROUNDS):
        for name, model in models.items():
            model.fit(**fed[name], verbose=0, callbacks=[timers[name]])
    found = {f"{name}_first_step_s": timer.epochs[0][0] for name, timer in timers.items()}
    # The first step of a `fit` waits for the data.
    seconds = {
        name: float(np.median([s for steps in timer.epochs[1:] for s in steps[1:]]))
        for name, timer in timers.items()
    }
    found |= {name: seconds[name] / (TASKS * seconds["single"]) for name in ("weights", "policy")}
    found["single_step_s"] = seconds["single"]
    flops = models["weights"].supernet_costs["flops"]["together"]
    found["supernet_flops_ratio"] = flops / (TASKS * single.architecture.flops())
    found["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


def part_inference():
    """Networks with no, some and all edges against independent ones: time beside FLOPs."""
    import keras_mtl
    from keras_mtl.strategies import RandomEdges

    tasks, network = speed.make_tasks(TASKS, size=None), backbone()
    models = {
        name: keras_mtl.build(network, tasks, strategy, seed=0)
        for name, strategy in {
            "independent": "independent",
            "no edge": RandomEdges(share=0.0),
            "half of the edges": RandomEdges(share=0.5),
            "all edges": RandomEdges(share=1.0),
        }.items()
    }
    return speed.inference_ratios(models)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=["search", "inference"])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        speed.answer({"search": part_search, "inference": part_inference}[arguments.child]())
        return
    speed.measure_all(__file__, RESULTS, {part: (part,) for part in arguments.parts})


if __name__ == "__main__":
    sys.exit(main())
