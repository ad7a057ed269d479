"""Settings: an object that is what its constructor's arguments are."""

from typing import Any, Self


class Settings:
    """Keeps its arguments under their names; equal to another with the same ones."""

    def get_config(self) -> dict[str, Any]:
        """Settings as plain data, for `from_config` and `Architecture.origin`."""
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((type(self), repr(self.get_config())))

    def __repr__(self):
        settings = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"
