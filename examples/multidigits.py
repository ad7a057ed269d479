"""Two overlapping handwritten digits: which digit is left, which is right, and what is their sum?

The whole job of the library in one script, on real images that need no download: single-task
networks, hard sharing, an AdaShare search, candidates decided and retrained, random policies beside
them, one table, pictures, and a SavedModel that is loaded back and asked per task.

    python examples/multidigits.py [--epochs 8] [--search-epochs 16] [--samples 3] [--fresh]

Takes 6 to 9 minutes on two cores. Writes to `runs/multidigits/`.
"""

import argparse
import functools
import os
import pathlib
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import protocol
import tensorflow as tf
from backbones import resnet

import keras_mtl


def experiment(arguments):
    digits = keras_mtl.data.load_multidigits(arguments.train, 1000, 2000, seed=arguments.seed)
    keras.utils.set_random_seed(arguments.seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tasks = [
        keras_mtl.Task(name, keras_mtl.heads.Classifier(classes), loss, ["accuracy"])
        for name, classes in (("left", 10), ("right", 10), ("sum", 19))
    ]
    width, blocks = (4, (1, 1)) if arguments.quick else (16, (2, 2, 4))
    return protocol.Experiment(
        backbone=resnet(
            (16, 16, 1), width=width, blocks=blocks, strides=(1, 2, 2)[: len(blocks)], stem_stride=2
        ),
        tasks=tasks,
        train=digits["train"],
        search_data=functools.partial(
            keras_mtl.data.search_split, digits["train"], batch_size=64, seed=arguments.seed
        ),
        validation=digits["val"],
        test=digits["test"],
        epochs=arguments.epochs,
        search_epochs=arguments.search_epochs,
        strategies={"adashare": keras_mtl.strategies.AdaShare(sharing=0.01, max_stages=4)},
        optimizer=lambda steps: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(3e-3, steps)
        ),
        search_optimizers=lambda strategy, steps: {
            "optimizer": keras.optimizers.SGD(0.05, momentum=0.9),
            "warmup_optimizer": keras.optimizers.Adam(3e-3),
            "policy_optimizer": keras.optimizers.Adam(0.03),
        },
        samples=arguments.samples,
        seed=arguments.seed,
        folder=pathlib.Path(arguments.folder),
        settings={k: v for k, v in vars(arguments).items() if k not in ("folder", "fresh")},
    )


def parser(description, *, samples, folder):
    """The arguments that every script on this data has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--epochs", type=int, default=8, help="of every training")
    parser.add_argument("--search-epochs", type=int, default=16)
    parser.add_argument("--samples", type=int, default=samples, help="candidates of each method")
    parser.add_argument("--train", type=int, default=3000, help="number of training images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default=folder)
    parser.add_argument("--fresh", action="store_true", help="forget kept results")
    parser.add_argument("--quick", action="store_true", help="tiny: only whether it runs")
    return parser


def prepared(arguments):
    """Sizes of a quick run, and an empty folder where one is asked for."""
    if arguments.quick:
        arguments.train, arguments.samples = 192, 1
        arguments.epochs, arguments.search_epochs = 1, 3
    if arguments.fresh:
        shutil.rmtree(arguments.folder, ignore_errors=True)
    return arguments


def main(arguments=None):
    options = parser(__doc__.splitlines()[0], samples=3, folder="runs/multidigits")
    setup = experiment(prepared(options.parse_args(arguments)))

    _, best, rows = protocol.run(setup)
    protocol.deliver(setup, best, rows, part=f"{len(setup.test[0])} test images")

    served = tf.saved_model.load(str(setup.folder / "saved_model"))
    images, labels = setup.test
    print("The SavedModel, asked one task at a time:")
    for task in best.task_names:
        answer = served.signatures[task](image=tf.constant(images[:8]))[task].numpy()
        print(
            f"  {task:6s} says {np.argmax(answer, 1).tolist()}, truth {labels[task][:8].tolist()}"
        )
    print(f"Pictures, table, plan and SavedModel are in {setup.folder}/.")


if __name__ == "__main__":
    main()
