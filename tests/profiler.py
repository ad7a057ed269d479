"""TensorFlow's own FLOPs count, to compare the library's table with."""

import keras
import tensorflow as tf

COUNTED = {"Conv2D", "DepthwiseConv2dNative", "MatMul"}


def profiled_flops(model):
    """FLOPs of a functional model at batch 1, by `tf.compat.v1.profiler`.

    Only operations of the types `COUNTED` are added up. The profiler is blind to whatever runs
    inside a nested function or loop: grouped convolutions (which Keras puts into a jitted function,
    counted 0) and recurrent layers. It has no rule for attention products (`BatchMatMulV2`,
    `Einsum`). Compare those with numbers computed by hand. Turning variables into constants first
    gives the same numbers (tried on DenseNet121) and doubles the time.
    """
    specs = [tf.TensorSpec((1, *each.shape[1:]), each.dtype) for each in model.inputs]

    @tf.function
    def predict(*inputs):
        return model(keras.tree.pack_sequence_as(model.input, inputs), training=False)

    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    )
    node = tf.compat.v1.profiler.profile(
        predict.get_concrete_function(*specs).graph,
        cmd="op",
        options=options.with_empty_output().build(),
    )
    total = 0
    # The "op" view is a chain: every entry is the one child of the entry before.
    while node.children:
        node = node.children[0]
        if node.name in COUNTED:
            total += node.float_ops
    return total
