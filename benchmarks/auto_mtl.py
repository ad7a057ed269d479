"""What an AutoMTL search costs, in units of K single-task steps, and what its networks cost to run.

    python benchmarks/auto_mtl.py [--backbones resnet18 mobilenet] [--tasks 2 3]

Every cell is measured in a process of its own, the single-task step before and after the search in
the same process. Writes `benchmarks/results/auto_mtl.json` and prints what it measured. The
published code, on the same ratio: steps of the search 1.13 to 1.30, of the pre-training 1.41 to
1.52, inference 0.95 to 1.07 whatever was decided. Takes about 20 minutes on two cores.
"""

import argparse
import resource
import sys

import speed

RESULTS = speed.RESULTS.with_name("auto_mtl.json")


def backbone(name):
    """A ResNet-18 for 96x128 images, or Keras' MobileNetV2 for the same."""
    if name == "resnet18":
        return speed.network()
    import keras

    return keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(*speed.SIZE, 3)
    )


def fixed_step(name, strategy, count):
    """Seconds of one training step of a fixed strategy, and until the first one is done."""
    import keras_mtl

    model = keras_mtl.build(backbone(name), speed.make_tasks(count), strategy, seed=0)
    model.compile("sgd")
    timer = speed.timed_steps()
    data = speed.make_data(count, speed.STEPS)
    model.fit(*data, batch_size=speed.BATCH, verbose=0, callbacks=[timer])
    return {"step_s": speed.middle(timer.epochs[0]), "first_step_s": timer.epochs[0][0]}


def search_steps(name, count, sampling):
    """Step times of the pre-training, of weights and of policy steps, as ratios."""
    import keras_mtl

    single_before = fixed_step(name, "shared", 1)
    strategy = keras_mtl.strategies.AutoMTL(
        sampling=sampling, pretrain=1 / 3, alternate=(speed.STEPS, speed.STEPS)
    )
    model = keras_mtl.build(backbone(name), speed.make_tasks(count), strategy, seed=0)
    model.compile("sgd", "adam")
    timer = speed.timed_steps()
    data = speed.make_data(count, 2 * speed.STEPS)
    pairs = keras_mtl.data.search_split(data, batch_size=speed.BATCH)
    model.fit(pairs, epochs=3, verbose=0, callbacks=[timer])
    single_after = fixed_step(name, "shared", 1)
    unit = count * (single_before["step_s"] + single_after["step_s"]) / 2
    found = {"single_step_before_after_s": [single_before["step_s"], single_after["step_s"]]}
    found["single_first_step_s"] = single_before["first_step_s"]
    for kind, seconds in zip(("pretrain", "policy", "weights"), timer.epochs, strict=True):
        found[kind] = speed.middle(seconds) / unit
        found[f"{kind}_first_step_s"] = seconds[0]
    found["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


def inference(name, count):
    """Decided networks against independent ones: time ratio beside FLOPs ratio."""
    import keras_mtl

    tasks, network = speed.make_tasks(count, size=None), backbone(name)
    search = keras_mtl.build(network, tasks, "auto_mtl", seed=0)
    models = {
        "independent": keras_mtl.build(network, tasks, "independent", seed=0),
        "shared": keras_mtl.build(network, tasks, "shared", seed=0),
    }
    for i, plan in enumerate(search.decide(samples=2, seed=0)):
        models[f"random policy {i + 1}"] = keras_mtl.build(
            network, tasks, architecture=plan, seed=0
        )
    return speed.inference_ratios(models)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "mobilenet"])
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--samplings", nargs="*", default=["soft", "hard"])
    parser.add_argument("--no-inference", action="store_true")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        part, name, count, *rest = arguments.child
        make = {"search": search_steps, "inference": inference}[part]
        speed.answer(make(name, int(count), *rest))
        return
    cells = [
        ("search", name, str(count), sampling)
        for name in arguments.backbones
        for count in arguments.tasks
        for sampling in arguments.samplings
    ]
    if not arguments.no_inference:
        cells += [("inference", name, "2") for name in arguments.backbones]
    speed.measure_all(__file__, RESULTS, {" ".join(cell): cell for cell in cells})


if __name__ == "__main__":
    sys.exit(main())
