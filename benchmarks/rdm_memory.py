"""What the RDM of many images with large features costs: peak memory and time.

    python benchmarks/rdm_memory.py [--images 2000] [--channels 512] [--size 28]

The features of 2,000 images, 512x28x28 each, are 3 GiB of float32; the whole process, TensorFlow
included, must stay under 2 GiB. It runs in a process of its own. The RDM of 16 of the images is
compared with NumPy's `corrcoef` in float64. Writes `benchmarks/results/rdm_memory.json` (command,
machine, versions, figures) and prints it. Takes a few minutes on two cores.
"""

import argparse
import resource
import time

import speed

RESULTS = speed.RESULTS.with_name("rdm_memory.json")


def peak_gib():
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def part_rdm(count, channels, size):
    """Peak memory before and after one RDM, its time, and its difference to plain NumPy."""
    import keras
    import numpy as np

    from keras_mtl.affinity import representation_dissimilarity

    inputs = keras.Input((size, size, 3))
    convolution = keras.layers.Conv2D(channels, 3, padding="same", activation="relu", name="block")
    model = keras.Model(inputs, convolution(inputs))
    images = np.random.default_rng(0).random((count, size, size, 3), "float32")
    before = peak_gib()
    begun = time.perf_counter()
    rdms = representation_dissimilarity(model, images, ["block"], verbose=0)
    seconds = time.perf_counter() - begun
    after = peak_gib()
    some = np.linspace(0, count - 1, 16, dtype=int)
    features = np.asarray(model.predict_on_batch(images[some]), "float64").reshape(len(some), -1)
    gap = np.abs(1 - np.corrcoef(features) - rdms[0][np.ix_(some, some)]).max()
    return {
        "features_gib": count * size * size * channels * 4 / 2**30,
        "peak_memory_before_gib": before,
        "peak_memory_gib": after,
        "seconds": seconds,
        "largest_difference_to_numpy": float(gap),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--child", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        speed.answer(part_rdm(*arguments.child))
        return
    shape = (arguments.images, arguments.channels, arguments.size)
    name = f"{shape[0]} images, {shape[1]}x{shape[2]}x{shape[2]} features"
    speed.measure_all(__file__, RESULTS, {name: list(map(str, shape))})


if __name__ == "__main__":
    main()
