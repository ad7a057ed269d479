"""IdentifiedModel: files of weights that say what they belong to."""

import contextlib
import json
import os
import pathlib
import zipfile
from typing import Any

import h5py
import keras
import numpy as np
from keras import ops

from keras_mtl.models.identity import difference


class IdentifiedModel(keras.Model):
    """A Keras model that loads no weights of other tasks or choices, and saves its random states.

    Subclasses have `task_names`.
    """

    def identity(self) -> dict[str, Any]:
        """What a file of weights must agree in: the tasks in order, and what a model adds."""
        return {"tasks": list(self.task_names)}

    def settings(self) -> dict[str, Any]:
        """What an interrupted training must agree in to be continued, as plain data."""
        return {**self.identity(), "seed": getattr(self, "seed", None)}

    @staticmethod
    def compare(found: Any, own: Any) -> Any:
        """The first difference of two identities or settings; see `identity.difference`."""
        return difference(found, own)

    def load_weights(
        self, filepath: os.PathLike[str] | str, skip_mismatch: bool = False, **options: Any
    ) -> None:
        """`keras.Model.load_weights` of a file that this model, or one that agrees, has written.

        Args:
            filepath: string or path. Ends in `.weights.h5` or `.keras`.
            skip_mismatch: bool. As in Keras, for variables of other shapes; what a file belongs to
                is looked at all the same.
            **options: of `keras.Model.load_weights`.

        Raises:
            ValueError: before anything is changed, when the file is damaged, or holds the weights
                of other tasks, another architecture or another search.
        """
        if _is_ours_to_read(filepath):
            self._check_identity(_identity_in(filepath), f"{str(filepath)!r}, ")
        super().load_weights(filepath, skip_mismatch=skip_mismatch, **options)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        # The file holds numbers only: the identity goes in as the bytes of its JSON.
        store["identity"] = np.frombuffer(json.dumps(self.identity()).encode(), "uint8")
        for i, state in enumerate(self.seed_states()):
            store[f"seed_state_{i}"] = np.asarray(ops.convert_to_numpy(state))

    def load_own_variables(self, store: Any) -> None:
        keys = set(store.keys())
        if "identity" in keys:
            self._check_identity(json.loads(np.asarray(store["identity"], "uint8").tobytes()))
            for i, state in enumerate(self.seed_states()):
                state.assign(np.asarray(store[f"seed_state_{i}"]))
        super().load_own_variables({key: store[key] for key in keys if key.isdigit()})

    def _check_identity(self, found, where=""):
        """Keras finds weights by position: other tasks or choices of one shape would fit too."""
        own = json.loads(json.dumps(self.identity()))
        if found["tasks"] != own["tasks"]:
            raise ValueError(
                f"The file must hold the weights of the tasks {own['tasks']}, in this order. "
                f"Received: weights of {found['tasks']}. Build the model with the tasks in "
                "that order."
            )
        different = difference(found, own)
        if different:
            what, theirs, ours = different
            raise ValueError(
                "The file must hold the weights of the same architecture. Received: "
                f"{where}weights of one with {what} = {theirs}; this model has {what} = {ours}. "
                "Build the model like that one, or hand weights on by "
                "`keras_mtl.build(..., initial_weights=model)`."
            )

    def seed_states(self) -> list[Any]:
        """Variables with the state of random numbers (Dropout and the like), in a fixed order.

        Keras does not save them with a model.
        """
        known = {id(variable) for variable in self.weights}
        states = [v for v in self.variables if id(v) not in known]
        return [v for v in states if "seed_generator_state" in v.path]


def _identity_in(filepath):
    """What a file says that it belongs to; refuses one that cannot be read or says nothing."""
    path = pathlib.Path(filepath)
    try:
        with contextlib.ExitStack() as stack:
            source = path
            if path.suffix == ".keras":
                archive = stack.enter_context(zipfile.ZipFile(path))
                archive.testzip()
                source = stack.enter_context(archive.open("model.weights.h5"))
            file = stack.enter_context(h5py.File(source, "r"))
            file.visititems(lambda name, item: None)  # meets every broken address
            stored = file.get("vars/identity")
            identity = stored if stored is None else json.loads(bytes(np.asarray(stored, "uint8")))
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"`filepath` must be a whole file of weights. Received: {str(path)!r}, which is empty, "
            f"damaged or of another kind ({_first_line(error)}). Restore it from a copy, or train "
            "again."
        ) from None
    if identity is None:
        raise ValueError(
            "`filepath` must be a file of weights of a model of this library. Received: "
            f"{str(path)!r}, weights of another model. Load them into the backbone, and pass it to "
            "`keras_mtl.build`."
        )
    return identity


def _is_ours_to_read(filepath):
    """Whether it is a file of weights; of all else Keras says what may be given."""
    path = pathlib.Path(filepath)
    return path.name.endswith((".weights.h5", ".keras")) and path.is_file()


def _first_line(error):
    return str(error).strip().split("\n")[0] or type(error).__name__
