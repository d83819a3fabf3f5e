"""Reads handwritten digits: a neural network with one hidden layer, trained epoch by epoch.

Metrics go to trainenv as one JSON object a line (`{"epoch": 3, "loss": 0.12}`); everything else
that is printed is just log. Results go to the folder that the variable TRAINENV_OUTPUTS names.
"""

import argparse
import json
import os
import pickle
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def main() -> None:
    arguments = parse_arguments()
    outputs = Path(os.environ.get("TRAINENV_OUTPUTS", "."))

    images, digits = load_digits(return_X_y=True)  # 1797 images of 8 x 8 pixels, grey levels 0-16
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16.0, digits, test_size=0.25, stratify=digits, random_state=arguments.seed
    )
    network = MLPClassifier(
        hidden_layer_sizes=(arguments.hidden,),
        activation=arguments.activation,
        learning_rate_init=arguments.learning_rate,
        random_state=arguments.seed,
    )
    print(f"training on {len(train_y)} images, testing on {len(test_y)} others", flush=True)

    for epoch in range(1, arguments.epochs + 1):
        network.partial_fit(train_x, train_y, classes=np.arange(10))
        probabilities = network.predict_proba(test_x)
        metrics = {
            "epoch": epoch,
            "loss": round(float(log_loss(test_y, probabilities)), 6),
            "accuracy": round(float(accuracy_score(test_y, probabilities.argmax(axis=1))), 4),
        }
        print(json.dumps(metrics), flush=True)

    save(network, outputs / "model.pkl", test_x)
    confusion = confusion_matrix(test_y, network.predict(test_x)).tolist()
    result = {**metrics, "test_rows": len(test_y), "confusion": confusion}
    (outputs / "result.json").write_text(json.dumps(result) + "\n")
    print(f"saved model.pkl and result.json in {outputs}", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--learning_rate", type=float, default=0.002)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--activation", choices=["relu", "tanh", "logistic"], default="relu")
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def save(network: MLPClassifier, file: Path, test_x: np.ndarray) -> None:
    """Save the network, and make sure that what was saved predicts the same."""
    file.write_bytes(pickle.dumps(network))
    loaded = pickle.loads(file.read_bytes())
    if not np.array_equal(loaded.predict_proba(test_x), network.predict_proba(test_x)):
        raise SystemExit(f"{file} does not predict what the trained network predicts")


if __name__ == "__main__":
    main()
