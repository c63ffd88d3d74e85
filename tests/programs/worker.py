"""One of two workers of tf.distribute.MultiWorkerMirroredStrategy, as TF_CONFIG says.

Usage: worker.py FOLDER
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tf_keras

from keras_lr import CosineDecay, LRHistory, LRRangeTest, ReduceLROnPlateau

folder = pathlib.Path(sys.argv[1])
strategy = tf.distribute.MultiWorkerMirroredStrategy()
x = np.random.default_rng(0).normal(size=(16, 2)).astype("float32")
data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(4)
with strategy.scope():
    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(2,))])
    model.compile(tf_keras.optimizers.SGD(1.0), "mse")
history = LRHistory(folder / "history.npz", log_dir=folder / "logs")
cut = ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=1e9, state_path=folder / "plateau.json")
model.fit(data, epochs=3, verbose=0, callbacks=[CosineDecay(0.1), cut, history])
result = LRRangeTest(max_lr=1e4, steps=30, rule="edge", verbose=0).run(model, data)
found = {
    "tested": result.rates.tolist(),
    "values": result.values.tolist(),
    "ended": result.ended,
    "rates": history.learning_rate.tolist(),
    "loss": history.loss.tolist(),
    "weights": [weight.tolist() for weight in model.get_weights()],
    "scale": cut.state_dict()["scale"],
}
print(json.dumps(found))
