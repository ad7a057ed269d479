"""What cutting off channels saves: latency of a pruned task's network beside its FLOPs.

    python benchmarks/pruning.py [--backbones resnet vgg] [--shares 0.25 0.5 0.75] [--repeats 20]

A task that uses a share of the channels of every other convolution (`FeaturePartition`) is cut out
with `MultiTaskModel.extract` and timed against the whole single-task network, in one process, the
networks in turn, so that a slow moment hits all of them; medians, as ratios. Beside them stands the
network with masks and without cutting, which saves nothing. Convolutions dominate: 256 channels,
16x16 maps, batch 8. They run on one core, which other work on the machine disturbs least. Writes
`benchmarks/results/pruning.json` (command, machine, versions, figures) and prints it;
`benchmarks/tables.py` makes the table. Takes about 5 minutes.
"""

import argparse
import time

import speed

RESULTS = speed.RESULTS.with_name("pruning.json")
WIDTH, SIZE, BATCH, BLOCKS = 256, 16, 8, 3


def resnet():
    """A stem and basic blocks: two convolutions each, around an identity."""
    import keras
    from keras import layers

    x = image = keras.Input((SIZE, SIZE, 3), name="image")
    x = _convolution(x, "stem")
    for block in range(BLOCKS):
        y = _convolution(x, f"block{block}_conv1")
        y = _convolution(y, f"block{block}_conv2", activate=False)
        x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(image, x, name="resnet")


def vgg():
    """Convolutions one after another."""
    import keras

    x = image = keras.Input((SIZE, SIZE, 3), name="image")
    for number in range(2 * BLOCKS):
        x = _convolution(x, f"conv{number}")
    return keras.Model(image, x, name="vgg")


def _convolution(x, name, *, activate=True):
    from keras import layers

    x = layers.Conv2D(WIDTH, 3, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activate else x


def part_pruning(name, shares, repeats):
    """Time ratio of every pruned network to the whole one, beside its FLOPs ratio."""
    import tensorflow as tf

    import keras_mtl

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    backbone = {"resnet": resnet, "vgg": vgg}[name]()
    tasks = [keras_mtl.Task("task", keras_mtl.heads.Classifier(10), "mse")]
    whole = keras_mtl.build(backbone, tasks, "shared", seed=0)
    networks, ratios = {"whole": whole.task_network("task")}, {}
    for share in shares:
        strategy = keras_mtl.strategies.FeaturePartition([[share]], frozen=0)
        model = keras_mtl.build(backbone, tasks, strategy, seed=0)
        networks[f"use {share}"] = model.extract("task")
        ratios[f"use {share}"] = model.architecture.flops("task") / whole.architecture.flops("task")
        if share == shares[0]:
            networks[f"use {share}, masked only"] = model.task_network("task")
            ratios[f"use {share}, masked only"] = 1.0
    seconds = timed(networks, repeats)
    found = {"whole": {"seconds": seconds["whole"]}}
    for key, flops_ratio in ratios.items():
        time_ratio = seconds[key] / seconds["whole"]
        found[key] = {
            "time_ratio": time_ratio,
            "flops_ratio": flops_ratio,
            "time_to_flops": time_ratio / flops_ratio,
            "seconds": seconds[key],
        }
    return found


def timed(networks, repeats):
    """Median seconds of a call of every network, called in turn."""
    import numpy as np
    import tensorflow as tf

    x = tf.constant(np.random.default_rng(0).random((BATCH, SIZE, SIZE, 3), "float32"))
    functions = {
        name: tf.function(lambda x, n=network: n(x, training=False))
        for name, network in networks.items()
    }
    for function in functions.values():
        function(x)
        function(x)
    seconds = {name: [] for name in networks}
    for _ in range(repeats):
        for name, function in functions.items():
            begun = time.perf_counter()
            function(x).numpy()
            seconds[name].append(time.perf_counter() - begun)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["resnet", "vgg"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.25, 0.5, 0.75])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, repeats, *shares = arguments.child
        speed.answer(part_pruning(name, list(map(float, shares)), int(repeats)))
        return
    rest = [str(arguments.repeats), *map(str, arguments.shares)]
    speed.measure_all(__file__, RESULTS, {name: [name, *rest] for name in arguments.backbones})


if __name__ == "__main__":
    main()
