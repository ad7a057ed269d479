"""A table with one entry per layer class, which users can add to."""

import keras


class LayerTable:
    """Entries for layer classes, looked up along a class's method resolution order.

    A key is a class, or a name for classes of libraries that are not imported: the class's own name
    (`"LayerScale"`) or the one that it is registered under with Keras (`"keras_hub>FNetEncoder"`).
    The later of two entries that fit one class holds.

    Example:

    >>> table = LayerTable()
    >>> table.add(keras.layers.Dense, 1)
    >>> table.find(keras.layers.Dense), table.find(keras.layers.Conv2D)
    (1, None)
    >>> table.add("Dense", 2)
    >>> table.find(keras.layers.Dense)
    2
    """

    def __init__(self):
        self.entries = {}

    def add(self, layer_class, entry):
        """Stores an entry in the place of an earlier one.

        Args:
            layer_class: subclass of `keras.layers.Layer`, or the name of one.
            entry: what `find` shall return.

        Raises:
            TypeError: when `layer_class` is neither.
        """
        self.check(layer_class)
        self.entries.pop(layer_class, None)
        self.entries[layer_class] = entry

    @staticmethod
    def check(layer_class):
        """Refuses what is no key."""
        is_class = isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)
        if not (is_class or (isinstance(layer_class, str) and layer_class)):
            raise TypeError(
                "`layer_class` must be a subclass of `keras.layers.Layer` or the name of one. "
                f"Received: layer_class={layer_class!r}."
            )

    def find(self, layer_class):
        """The entry of a class or of the nearest class that it inherits from; `None` without."""
        for cls in layer_class.__mro__:
            names = (cls, cls.__name__, keras.saving.get_registered_name(cls))
            fitting = [key for key in self.entries if key in names]
            if fitting:
                return self.entries[fitting[-1]]
        return None
