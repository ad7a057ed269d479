"""What optimizers of several groups of variables must be, and how one begins again."""

import copy

from keras import ops


def check_optimizers(optimizers, groups):
    """Raises `ValueError` unless every group can have the optimizer that it is given.

    An optimizer keeps momentum and a count of steps for the variables that it was built with.

    Args:
        optimizers: dict from the name of an argument to a Keras optimizer.
        groups: list of lists of variables, one for each optimizer.
    """
    seen = {}
    for (name, optimizer), variables in zip(optimizers.items(), groups, strict=False):
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if id(inner) in seen:
            raise ValueError(
                f"`{name}` must be an optimizer of its own. Received: the {_kind(optimizer)} that "
                f"is `{seen[id(inner)]}` too. Make two, such as "
                f"`keras.optimizers.{_kind(optimizer)}(...)` twice."
            )
        seen[id(inner)] = name
        # Keras has no public name for what an optimizer was built with.
        known = {id(v) for v in getattr(inner, "_trainable_variables", ())}
        if optimizer.built and any(id(v) not in known for v in variables):
            raise ValueError(
                f"`{name}` must be new, or have been built for the variables that it is to move. "
                f"Received: {_kind(optimizer)} that is built for others, such as those of another "
                f"model. Make a new one, such as `keras.optimizers.{_kind(optimizer)}(...)`."
            )


def begin_again(optimizer, config, variables):
    """Gives an optimizer the state that a new one has, with the settings that it once had.

    The object stays the same: train functions and callbacks hold it.

    Args:
        optimizer: built Keras optimizer.
        config: dict, of its `get_config` when it was new.
        variables: list of variables, those that it was built with.
    """
    fresh = type(optimizer).from_config(copy.deepcopy(config))
    fresh.build(variables)
    for variable, first in zip(optimizer.variables, fresh.variables, strict=True):
        variable.assign(ops.convert_to_numpy(first))


def _kind(optimizer):
    return type(optimizer).__name__
