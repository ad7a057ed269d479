"""Losses and metrics in the configuration of a task, and what stands for those that are lost.

Keras finds a function or class by its registered name. One that is not registered is written by its
own name, and comes back where `custom_objects` of that name are given; otherwise a `LostLoss` or
`LostMetric` stands for it, so that a network loads without its losses.
"""

import json
import warnings

import keras

from keras_mtl.task.loss import FunctionLoss
from keras_mtl.task.metric import FunctionMetric
from keras_mtl.task.settings import copied, is_like, settings_of

_LOST = "unregistered"


class LostLoss(keras.losses.Loss):
    """Stands for a loss that could not be found when its task was loaded."""

    def __init__(self, config):
        super().__init__(name=_name_in(config))
        self.config = config

    def call(self, y_true, y_pred):
        raise ValueError(f"The loss {self.name!r} was not found when its task was loaded.")

    def get_config(self):
        return {"config": self.config}


class LostMetric(keras.metrics.Metric):
    """Stands for a metric that could not be found when its task was loaded."""

    def __init__(self, config):
        super().__init__(name=_name_in(config))
        self.config = config

    def update_state(self, y_true, y_pred, sample_weight=None):
        raise ValueError(f"The metric {self.name!r} was not found when its task was loaded.")

    def get_config(self):
        return {"config": self.config}


def to_config(part):
    """The configuration of a loss or metric, plain data."""
    if isinstance(part, (LostLoss, LostMetric)):
        return part.config
    config = _known_config(part)
    if config is not None:
        return config
    made = source_of(part)
    name = getattr(made, "__name__", type(made).__name__)
    whole = not is_function(part) and copied(part) is not None
    settings = _as_json(settings_of(part)) if whole else None
    return {_LOST: name, "name": part.name, "settings": settings}


def loss_from_config(config):
    """The loss of a configuration, or a `LostLoss`."""
    return _from_config(config, keras.losses.Loss, FunctionLoss, LostLoss)


def metric_from_config(config):
    """The metric of a configuration, or a `LostMetric`."""
    return _from_config(config, keras.metrics.Metric, FunctionMetric, LostMetric)


def is_lost(config):
    """Whether a configuration is of something that Keras will not find again by itself."""
    return isinstance(config, dict) and _LOST in config


def custom_name(config):
    """The key of `custom_objects` that brings a lost part back; `None` where none can."""
    if config.get("shared") or (not is_lost(config) and "class_name" not in config):
        return None
    if is_lost(config):
        return config[_LOST]
    function = config["config"].get("function") if isinstance(config["config"], dict) else None
    return function["config"] if isinstance(function, dict) else config["registered_name"]


def is_function(part):
    """Whether a loss or metric is a function."""
    return isinstance(part, (FunctionLoss, FunctionMetric))


def source_of(part):
    """The function or class behind a loss or metric."""
    return part.function if is_function(part) else type(part)


def _name_in(config):
    if is_lost(config):
        return config["name"]
    own = config.get("config")
    name = own.get("name") if isinstance(own, dict) else None
    return name or config.get("registered_name") or config.get("class_name")


def _known_config(part):
    """A configuration by which Keras finds this very function, or this class and its settings."""
    try:
        if is_function(part):
            if getattr(part.function, "__name__", "<lambda>") == "<lambda>":
                return None
            written = keras.saving.serialize_keras_object(part.function)
            if _found(written, part.function.__name__) is not part.function:
                return None
            return keras.saving.serialize_keras_object(part)
        config = keras.saving.serialize_keras_object(part)
        settings = _as_json(settings_of(part))
        if settings is None:
            return None
        config["config"] = settings
        again = _found(json.loads(json.dumps(config)), type(part).__name__)
    except Exception:  # what Keras and the user's classes say here is that they cannot
        return None
    return config if is_like(again, part) else None


def _found(config, name):
    """What Keras makes of a configuration without the custom objects of a scope."""
    with keras.saving.custom_object_scope({name: None}):
        return keras.saving.deserialize_keras_object(config)


def _as_json(settings):
    """The settings as plain data; `None` where they are not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras' word that it writes down the code of a lambda
            return json.loads(json.dumps(keras.saving.serialize_keras_object(settings)))
    except Exception:
        return None


def _from_config(config, base, function_class, lost_class):
    if not is_lost(config):
        try:
            return keras.saving.deserialize_keras_object(config)
        except Exception:
            return lost_class(config)
    found = None if config.get("shared") else keras.saving.get_registered_object(config[_LOST])
    if isinstance(found, base):
        return found
    if isinstance(found, type) and issubclass(found, base):
        settings = config["settings"]
        return lost_class(config) if settings is None else found.from_config(settings)
    return function_class(found, config["name"]) if callable(found) else lost_class(config)
