"""Is a review good or bad? Several domains, each with texts of its own: AutoMTL on a transformer.

One dataset per task, and a backbone without a convolution: a small transformer encoder written in
plain Keras layers, whose attentions, dense layers and embeddings every domain shares, owns or
skips. By the protocol of `protocol.py`: single-task networks, hard sharing, AdaShare, the named
search, and random policies beside it.

    KERAS_MTL_DATA=/path/to/data python examples/reviews.py               # under half an hour
    KERAS_MTL_DATA=/path/to/data python examples/reviews.py --domains all # sixteen tasks: hours
    KERAS_MTL_DATA=/path/to/data python examples/reviews.py --quick       # a minute: does it run?

Writes results, pictures and the SavedModel to `runs/reviews/`; an interrupted run goes on.
"""

import argparse
import functools
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import protocol
from keras import layers, ops

import keras_mtl

PADDING = 0
DOMAINS = ("books", "dvd", "electronics", "kitchen_housewares")


def transformer(vocabulary, length, *, width=32, blocks=2, heads=4):
    """A post-norm transformer encoder; its features are the mean over the words of a text."""
    ids = keras.Input((length,), dtype="int32", name="ids")
    real = ops.not_equal(ids, PADDING)
    mask = layers.Reshape((1, length))(real)
    places = layers.Embedding(length, width, name="places")(ops.cumsum(ops.ones_like(ids), 1) - 1)
    x = layers.Add()([layers.Embedding(vocabulary, width, name="words")(ids), places])
    x = layers.Dropout(0.2)(layers.LayerNormalization(name="embedded_norm")(x))
    for block in range(1, blocks + 1):
        name = f"block{block}"
        attention = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")
        x = layers.Add()([x, attention(x, x, attention_mask=mask)])
        x = layers.LayerNormalization(name=f"{name}_norm1")(x)
        y = layers.Dense(2 * width, activation="relu", name=f"{name}_wide")(x)
        x = layers.Add()([x, layers.Dense(width, name=f"{name}_narrow")(y)])
        x = layers.LayerNormalization(name=f"{name}_norm2")(x)
    x = layers.GlobalAveragePooling1D(name="mean")(x, mask=real)
    return keras.Model(ids, x, name="transformer")


def task(domain):
    """Positive or negative, on texts of one domain."""
    return keras_mtl.Task(
        domain,
        keras_mtl.heads.Classifier(1, dropout=0.2),
        keras.losses.BinaryCrossentropy(from_logits=True),
        ["accuracy"],
        inputs=domain,
    )


def experiment(arguments):
    keras.utils.set_random_seed(arguments.seed)
    named = arguments.strategy
    domains = None if arguments.domains == ["all"] else arguments.domains
    texts = [
        keras_mtl.data.load_reviews(split, domains=domains, seed=arguments.seed)
        for split in ("train", "val", "test")
    ]
    if arguments.limit:
        texts = [
            {name: (x[: arguments.limit], y[: arguments.limit]) for name, (x, y) in part.items()}
            for part in texts
        ]
    train, validation, test = keras_mtl.data.tokenise(
        *texts, vocabulary=arguments.vocabulary, length=arguments.length
    )
    strategies = {
        "adashare": keras_mtl.strategies.AdaShare(max_stages=2),
        "auto_mtl": keras_mtl.strategies.AutoMTL(regularisation=arguments.regularisation),
    }
    return protocol.Experiment(
        backbone=transformer(arguments.vocabulary, arguments.length, width=arguments.width),
        tasks=[task(domain) for domain in train],
        train=train,
        search_data=functools.partial(
            keras_mtl.data.search_split, train, batch_size=arguments.batch, seed=arguments.seed
        ),
        validation=validation,
        test=test,
        epochs=arguments.epochs,
        search_epochs=arguments.search_epochs,
        strategies={name: strategies[name] for name in dict.fromkeys(["adashare", named])},
        optimizer=lambda steps: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, steps)
        ),
        search_optimizers=lambda strategy, steps: {
            "optimizer": keras.optimizers.Adam(1e-3),
            "policy_optimizer": keras.optimizers.Adam(0.03),
        },
        samples=arguments.samples,
        seed=arguments.seed,
        folder=pathlib.Path(arguments.folder),
        batch_size=arguments.batch,
        settings={k: v for k, v in vars(arguments).items() if k != "folder"},
    )


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategy", default="auto_mtl", choices=("adashare", "auto_mtl"))
    parser.add_argument("--regularisation", type=float, default=0.03, help="λ of AutoMTL")
    parser.add_argument("--domains", nargs="+", default=list(DOMAINS), help='or "all"')
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--length", type=int, default=96, help="tokens of a text")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=6, help="of every training")
    parser.add_argument("--search-epochs", type=int, default=12)
    parser.add_argument("--samples", type=int, default=3, help="candidates of each method")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--limit", type=int, help="only so many texts of each domain and part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="runs/reviews")
    parser.add_argument("--quick", action="store_true", help="tiny: only whether it runs")
    arguments = parser.parse_args(arguments)
    if arguments.quick:
        arguments.domains, arguments.vocabulary, arguments.length = arguments.domains[:2], 500, 12
        arguments.width, arguments.limit, arguments.batch = 8, 32, 16
        arguments.epochs, arguments.search_epochs, arguments.samples = 1, 3, 1
    return arguments


def main(arguments=None):
    setup = experiment(parse(arguments))
    _, best, rows = protocol.run(setup)
    protocol.deliver(setup, best, rows)


if __name__ == "__main__":
    main()
