"""IdentifiedModel: files of weights that say what they belong to."""

import json

import keras
import numpy as np
from keras import ops


class IdentifiedModel(keras.Model):
    """A Keras model that loads no weights of other tasks or choices, and saves its random states.

    Subclasses have `task_names`.
    """

    def identity(self):
        """What a file of weights must agree in: the tasks in order, and what a model adds."""
        return {"tasks": list(self.task_names)}

    def settings(self):
        """What an interrupted training must agree in to be continued, as plain data."""
        return {**self.identity(), "seed": getattr(self, "seed", None)}

    def save_own_variables(self, store):
        super().save_own_variables(store)
        # The file holds numbers only: the identity goes in as the bytes of its JSON.
        store["identity"] = np.frombuffer(json.dumps(self.identity()).encode(), "uint8")
        for i, state in enumerate(self.seed_states()):
            store[f"seed_state_{i}"] = np.asarray(ops.convert_to_numpy(state))

    def load_own_variables(self, store):
        keys = set(store.keys())
        if "identity" in keys:
            self._check_identity(json.loads(np.asarray(store["identity"], "uint8").tobytes()))
            for i, state in enumerate(self.seed_states()):
                state.assign(np.asarray(store[f"seed_state_{i}"]))
        super().load_own_variables({key: store[key] for key in keys if key.isdigit()})

    def _check_identity(self, found):
        """Keras finds weights by position: other tasks or choices of one shape would fit too."""
        own = self.identity()
        if found["tasks"] != own["tasks"]:
            raise ValueError(
                f"The file must hold the weights of the tasks {own['tasks']}, in this order. "
                f"Received: weights of {found['tasks']}. Build the model with the tasks in that "
                "order."
            )
        if found != own:
            raise ValueError(
                "The file must hold the weights of the same architecture. Received: weights of "
                "another one. Build the model with that architecture, or hand weights on by "
                "`keras_mtl.build(..., initial_weights=model)`."
            )

    def seed_states(self):
        """Variables with the state of random numbers (Dropout and the like), in a fixed order.

        Keras does not save them with a model.
        """
        known = {id(variable) for variable in self.weights}
        states = [v for v in self.variables if id(v) not in known]
        return [v for v in states if "seed_generator_state" in v.path]
