"""Sluice: every subspace of every column becomes a learned mixture of all subspaces of all."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_mtl.checks import check_count
from keras_mtl.graph.costs import free, register_flops
from keras_mtl.layers._columns import (
    constant,
    fit_channels,
    not_negative,
    own_and_others,
    shapes_of_columns,
    share,
    total,
)

INITIAL = ("own", "balanced", "biased")
BIAS = 0.95  # of the one subspace that "biased" prefers; the others have 1 - BIAS


@keras.saving.register_keras_serializable("keras_mtl")
class Sluice(keras.layers.Layer):
    r"""Mixes the subspaces of the columns of K tasks at one place of the network.

    The channels of every column are divided in order into G subspaces $h_{ig}$, the first ones a
    channel wider where G does not divide them. $\tilde{h}_{ig} = Σ_{jh} α_{igjh} h_{jh}$, with one
    weight for each pair of subspaces of any tasks; of a wider subspace the last channel is cut
    off, to a narrower one zeros are added. Training and inference are the same.

    First weights α, by `initial`:

    - `"own"`: a subspace has the weight `own` on itself, the rest in equal parts on all others: a
      cross-stitch unit, which is what this is with one subspace. It leaves trained columns nearly
      as they are.
    - `"balanced"`: all are 1 / (K G); the default of the authors' program.
    - `"biased"`: the authors' "imbalanced": 0.95 on one subspace of every task and 0.05 on the
      others, so that with two subspaces rows sum to K and trained features are not kept. For two
      tasks and two subspaces the numbers are theirs: the first task reads second subspaces, the
      second task first ones; in general task i reads number (i + 1) mod G.

    What the paper leaves open: more than two tasks or subspaces, columns other than recurrent
    layers of one width, odd widths, bounds of α (here none), and which parameters of a layer are
    to be orthogonal (see `orthogonality_penalty`).

    The paper's penalty is on the parameters before the unit, which a layer does not see.
    `orthogonality` adds the one on the features instead: for every task and pair of subspaces
    $\|H_g^\top H_h / N\|_F^2$, with the N positions of the batch as rows of the inputs' subspaces
    H. It does not depend on the size of the batch or of the maps.

    Args:
        num_tasks: int of at least 1. K, the number of columns.
        subspaces: int of at least 1. G; 2 in the paper.
        own: float between 0 and 1. First weight of a subspace on itself, for `initial="own"`.
        initial: `"own"`, `"balanced"` or `"biased"`. First values of α.
        orthogonality: float of at least 0. Weight of the penalty on the features, which is added
            to the layer's losses; 0 leaves it out.

    Call arguments:
        inputs: list of K tensors of one shape, `(batch, ..., channels)`, in the order of the
            tasks.

    Returns:
        List of K tensors of the shape of the inputs.

    Raises:
        TypeError: when `own` is no number.
        ValueError: when an argument is out of range, or the inputs are not K tensors of one shape
            with a channel for each subspace.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.layers import Sluice
    >>> first, second = Sluice(2, own=0.625)([np.array([[8.0, 0.0]]), np.array([[0.0, 16.0]])])
    >>> first.numpy().tolist(), second.numpy().tolist()
    ([[7.0, 3.0]], [[3.0, 11.0]])

    Reference:
        [Latent multi-task architecture learning](https://arxiv.org/abs/1705.08142), the α
        parameters. First values are those of the authors' program.
    """

    def __init__(
        self,
        num_tasks: int,
        subspaces: int = 2,
        *,
        own: float = 0.9,
        initial: Literal["own", "balanced", "biased"] = "own",
        orthogonality: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if initial not in INITIAL:
            raise ValueError(f"`initial` must be one of {INITIAL}. Received: initial={initial!r}.")
        self.num_tasks = check_count("num_tasks", num_tasks)
        self.subspaces = check_count("subspaces", subspaces)
        self.own = share("own", own)
        self.initial = initial
        self.orthogonality = not_negative("orthogonality", orthogonality)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        channels = shapes_of_columns(self.num_tasks, input_shape)[-1]
        if channels < self.subspaces:
            raise ValueError(
                f"`inputs` must have a channel for each of the {self.subspaces} subspaces. "
                f"Received: {channels} channels."
            )
        self.alpha = self.add_weight(
            name="alpha",
            shape=(self.num_tasks, self.subspaces) * 2,
            initializer=constant(self._first()),
        )
        self.built = True

    def _first(self):
        shape = (self.num_tasks, self.subspaces) * 2
        size = self.num_tasks * self.subspaces
        if self.initial == "balanced":
            return np.full(shape, 1 / size)
        if self.initial == "own":
            return own_and_others(size, self.own).reshape(shape)
        preferred = (np.arange(self.num_tasks) + 1) % self.subspaces
        prefers = preferred[:, None, None, None] == np.arange(self.subspaces)
        return np.broadcast_to(np.where(prefers, BIAS, 1 - BIAS), shape)

    def call(self, inputs: Any) -> Any:
        alpha = ops.convert_to_tensor(self.alpha)
        parts = [split(tensor, self.subspaces) for tensor in inputs]
        if self.orthogonality:
            self.add_loss(self.orthogonality * total(_of_features(each) for each in parts))
        outputs = []
        for i in range(self.num_tasks):
            mixed = [
                total(
                    alpha[i, g, j, h] * fit_channels(part, parts[i][g].shape[-1])
                    for j, column in enumerate(parts)
                    for h, part in enumerate(column)
                )
                for g in range(self.subspaces)
            ]
            outputs.append(ops.concatenate(mixed, axis=-1))
        return outputs

    @staticmethod
    def costs(num_tasks: int, subspaces: int = 2) -> tuple[int, int]:
        """Parameters and FLOPs of a unit, without building it; the shape of the maps is no matter.

        It multiplies element by element and adds, which counts 0 FLOPs everywhere in this library
        (`keras_mtl.graph.costs`: weighted operators and attention products count).

        Args:
            num_tasks: int. As in the constructor.
            subspaces: int. As in the constructor.

        Returns:
            `(parameters, flops)`, two ints.
        """
        return (num_tasks * subspaces) ** 2, 0

    def compute_output_shape(self, input_shape: Any) -> Any:
        return [tuple(shape) for shape in input_shape]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            num_tasks=self.num_tasks,
            subspaces=self.subspaces,
            own=self.own,
            initial=self.initial,
            orthogonality=self.orthogonality,
        )
        return config


register_flops(Sluice)(free)


def split(tensor, subspaces):
    """The subspaces of a tensor's last axis, in order, of equal width or the first one wider.

    Args:
        tensor: tensor of shape `(..., channels)`.
        subspaces: int. How many.

    Returns:
        A list of tensors.

    Example:

    >>> [part.shape[-1] for part in split(np.ones((2, 5)), 2)]
    [3, 2]
    """
    ends = np.cumsum([len(part) for part in np.array_split(range(tensor.shape[-1]), subspaces)])
    return [tensor[..., a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def orthogonality_penalty(kernel, subspaces=2):
    r"""How far the subspaces of a layer's parameters are from orthogonal.

    $Σ_{g<h} \|G_g^\top G_h\|_F^2$, with a column of $G$ for each channel that the layer puts out:
    0 if and only if every channel's weights in one subspace are orthogonal to every channel's in
    the others. The paper sums it over tasks and layers. Its authors' program takes two of an
    LSTM's kernels, and contracts the subspaces' channels instead of their inputs, which needs
    subspaces of one width.

    Args:
        kernel: tensor of shape `(..., channels)`, such as the kernel of a convolution or a dense
            layer. All axes but the last are one.
        subspaces: int of at least 1. How many parts the channels are divided into, as in `Sluice`.

    Returns:
        A float32 scalar.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.layers.sluice import orthogonality_penalty
    >>> float(orthogonality_penalty(np.array([[1.0, 2.0], [3.0, 0.0]])))
    4.0

    Reference:
        [Latent multi-task architecture learning](https://arxiv.org/abs/1705.08142), the inductive
        bias.
    """
    return _penalty(split(ops.cast(kernel, "float32"), subspaces))


def _of_features(parts):
    positions = ops.cast(ops.prod(ops.shape(parts[0])[:-1]), "float32")
    root = ops.sqrt(positions)  # of each factor, so that no product grows with the batch
    return _penalty([ops.cast(part, "float32") / root for part in parts])


def _penalty(parts):
    rows = [ops.reshape(part, (-1, part.shape[-1])) for part in parts]
    pairs = [(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :]]
    products = [ops.sum(ops.square(ops.matmul(ops.transpose(a), b))) for a, b in pairs]
    return total(products) if products else ops.zeros((), "float32")
