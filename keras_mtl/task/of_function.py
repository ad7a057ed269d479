"""OfFunction: what losses and metrics of a function have in common."""

import keras


class OfFunction:
    """A loss or metric that is configured by a function, kept as `function`."""

    def get_config(self):
        return {"function": keras.saving.serialize_keras_object(self.function), "name": self.name}

    @classmethod
    def from_config(cls, config):
        function = config["function"]
        if not callable(function):
            function = keras.saving.deserialize_keras_object(function)
        return cls(function, config["name"])
