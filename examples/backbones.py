"""Small networks for the examples and the benchmarks."""

import keras


def resnet(
    shape, *, width, blocks=(2, 2, 2, 2), strides=(1, 2, 2, 2), stem_stride=1, name="resnet"
):
    """A ResNet of basic blocks; stage i has `blocks[i]` blocks of `width * 2**i` channels.

    `(2, 2, 2, 2)` is a ResNet-18. The features keep their spatial size: heads pool or upsample.

    Args:
        shape: `(height, width, channels)` of the image.
        width: int. Channels of the first stage.
        blocks: number of blocks of each stage.
        strides: stride of the first block of each stage.
        stem_stride: stride of the first convolution.
        name: string.
    """
    inputs = keras.Input(shape, name="image")
    x = keras.layers.ReLU()(convolve(inputs, width, 3, stem_stride))
    for stage, (count, stride) in enumerate(zip(blocks, strides, strict=True)):
        for block in range(count):
            x = basic_block(x, width * 2**stage, stride if block == 0 else 1)
    return keras.Model(inputs, x, name=name)


def vgg(shape, *, width, convolutions=(2, 2, 3, 3), name="vgg"):
    """Stages of 3x3 convolutions with batch normalisation, a maximum pooling before all but one.

    Args:
        shape: `(height, width, channels)` of the image.
        width: int. Channels of the first stage; each stage doubles them, up to 8 times as many.
        convolutions: number of convolutions of each stage; `(2, 2, 3, 3, 3)` is VGG16.
        name: string.
    """
    x = inputs = keras.Input(shape, name="image")
    for stage, count in enumerate(convolutions):
        if stage:
            x = keras.layers.MaxPooling2D()(x)
        for _ in range(count):
            x = keras.layers.ReLU()(convolve(x, width * min(2**stage, 8), 3))
    return keras.Model(inputs, x, name=name)


def basic_block(x, filters, stride):
    """ReLU(shortcut(x) + F(x)) with two 3x3 convolutions."""
    shortcut = x
    if stride != 1:
        # What a 1x1 convolution with this stride reads: TensorFlow's own can crash on CPUs.
        shortcut = keras.layers.MaxPooling2D(1, stride)(x)
    if stride != 1 or x.shape[-1] != filters:
        shortcut = convolve(shortcut, filters, 1)
    y = keras.layers.ReLU()(convolve(x, filters, 3, stride))
    return keras.layers.ReLU()(keras.layers.Add()([convolve(y, filters, 3), shortcut]))


def convolve(x, filters, kernel, stride=1):
    """A convolution and its batch normalisation."""
    x = keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False)(x)
    return keras.layers.BatchNormalization(momentum=0.9)(x)
