"""Making functional models in every version of Keras that the library allows."""

import keras


def functional(inputs, outputs, name):
    """`keras.Model(inputs, outputs)`; says in a sentence where Keras wants all inputs read.

    Raises:
        ValueError: before Keras 3.14, when nothing reads one of the inputs.
    """
    try:
        return keras.Model(inputs, outputs, name=name)
    except ValueError as error:
        if "not connected" not in str(error):
            raise
        raise ValueError(
            f"Every input of network {name!r} must be read with this version of Keras. Received: "
            f"an input that nothing reads, with Keras {keras.__version__}. Install Keras 3.14 or "
            "newer, or let a task keep the units that read it."
        ) from None
