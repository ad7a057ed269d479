"""Segmentation, depth and surface normals of one indoor picture: methods on NYU Depth V2.

Dense prediction on real data with unlabelled pixels, by the protocol of `protocol.py`: single-task
networks, hard sharing, the methods you name, random decisions beside the last one's, the papers'
metrics on the official test part. Columns that exchange features begin with the trained single-task
networks, as in their papers; MTL-NAS keeps the weights of its search.

    KERAS_MTL_DATA=/path/to/data python examples/nyuv2.py             # full, many hours
    KERAS_MTL_DATA=/path/to/data python examples/nyuv2.py --strategy adashare auto_mtl
    KERAS_MTL_DATA=/path/to/data python examples/nyuv2.py --strategy mtl_nas --half --epochs 15
    KERAS_MTL_DATA=/path/to/data python examples/nyuv2.py --half --epochs 15 \\
        --search-epochs 20 --samples 2                             # under an hour
    KERAS_MTL_DATA=/path/to/data python examples/nyuv2.py --quick     # a minute: does it run?

Writes results, pictures and the SavedModel to `runs/nyuv2/`; an interrupted run goes on, and one of
another strategy uses what is there.
"""

import argparse
import functools
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import protocol
import tensorflow as tf
from backbones import resnet

import keras_mtl

CLASSES = 13
STRATEGIES = (
    "adashare",
    "auto_mtl",
    "mtl_nas",
    "cross_stitch",
    "sluice",
    "nddr_cnn",
    "mtan",
)


def tasks(size, quick=False):
    """The three tasks, with losses, weights and metrics of the paper.

    A few steps leave every depth outside the thresholds, and a Δ cannot be relative to 0: `quick`
    leaves those metrics out.
    """
    metrics = keras_mtl.metrics
    thresholds = () if quick else (1, 2, 3)
    angles = [metrics.NormalAngle("within", degrees=d) for d in (11.25, 22.5, 30.0)]

    def head(filters):
        return keras_mtl.heads.ASPP(filters, width=32, rates=(1, 3, 6), size=size)

    return [
        keras_mtl.Task(
            "segmentation",
            head(CLASSES),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            [metrics.MeanIoU(CLASSES, ignore=255), metrics.PixelAccuracy(ignore=255)],
            ignore=255,
        ),
        keras_mtl.Task(
            "depth",
            head(1),
            "mean_absolute_error",
            [
                metrics.DepthAbsoluteError(),
                metrics.DepthRelativeError(),
                *(metrics.DepthThresholdAccuracy(power) for power in thresholds),
            ],
            weight=3.0,
        ),
        keras_mtl.Task(
            "normals",
            head(3),
            keras.losses.CosineSimilarity(axis=-1),
            [metrics.NormalAngle("mean"), metrics.NormalAngle("median"), *angles],
            weight=20.0,
        ),
    ]


def halved(image, labels):
    """Half the resolution: a mean for the picture, every second pixel of the labels."""
    image = tf.nn.avg_pool2d(image[None], 2, 2, "VALID")[0]
    return image, {name: label[::2, ::2] for name, label in labels.items()}


def dataset(split, arguments):
    """Single examples, decoded once and kept in memory."""
    data = keras_mtl.data.load_nyuv2(split, classes=CLASSES, limit=arguments.limit)
    if arguments.half:
        data = data.map(halved)
    return data.cache()


def experiment(arguments):
    keras.utils.set_random_seed(arguments.seed)
    size = (48, 64) if arguments.half else (96, 128)
    train = dataset("train", arguments)
    examples = train.cardinality().numpy()
    backbone = resnet(
        (*size, 3),
        width=arguments.width,
        blocks=(1,) * 4 if arguments.quick else (2,) * 4,
        strides=(1, 2, 2, 1),
        stem_stride=2,
    )
    settings = {"auto_mtl": {"regularisation": arguments.regularisation}}
    strategies = {
        name: keras_mtl.strategies.get_class(name)(**settings.get(name, {}))
        for name in arguments.strategy
    }
    return protocol.Experiment(
        backbone=backbone,
        tasks=tasks(size, arguments.quick),
        train=train.shuffle(examples, seed=arguments.seed).batch(arguments.batch).prefetch(2),
        search_data=functools.partial(
            keras_mtl.data.search_split, train.batch(arguments.batch), seed=arguments.seed
        ),
        validation=dataset("val", arguments).batch(arguments.batch),
        test=dataset("test", arguments).batch(arguments.batch),
        epochs=arguments.epochs,
        search_epochs=arguments.search_epochs,
        strategies=strategies,
        optimizer=lambda steps: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, steps)
        ),
        search_optimizers=search_optimizers,
        samples=arguments.samples,
        seed=arguments.seed,
        folder=pathlib.Path(arguments.folder),
        batch_size=arguments.batch,
        settings={k: v for k, v in vars(arguments).items() if k not in ("folder", "strategy")},
    )


def search_optimizers(strategy, steps):
    """What a search is compiled with; where nothing is retrained its weights learn to the end."""
    weights = keras.optimizers.SGD(1e-2, momentum=0.9, clipnorm=5.0)
    if not strategy.retrains:
        weights = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps))
    return {
        "optimizer": weights,
        "warmup_optimizer": keras.optimizers.Adam(2e-3),
        "policy_optimizer": keras.optimizers.Adam(0.03),
    }


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--strategy",
        nargs="+",
        default=["adashare"],
        choices=STRATEGIES,
        help="one row each; pictures and random decisions of the last",
    )
    parser.add_argument("--regularisation", type=float, default=0.1, help="λ of AutoMTL")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--half", action="store_true", help="half the resolution")
    parser.add_argument("--epochs", type=int, default=30, help="of every training")
    parser.add_argument("--search-epochs", type=int, default=40)
    parser.add_argument("--samples", type=int, default=8, help="candidates of each method")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--limit", type=int, help="only so many pictures of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="runs/nyuv2")
    parser.add_argument("--quick", action="store_true", help="tiny: only whether it runs")
    arguments = parser.parse_args(arguments)
    if arguments.quick:
        arguments.half, arguments.width, arguments.batch, arguments.limit = True, 4, 8, 16
        arguments.epochs, arguments.search_epochs, arguments.samples = 1, 3, 1
    return arguments


def main(arguments=None):
    setup = experiment(parse(arguments))
    _, best, rows = protocol.run(setup)
    protocol.deliver(setup, best, rows)


if __name__ == "__main__":
    main()
