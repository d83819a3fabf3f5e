"""Tells malignant from benign tumours: a linear model trained one epoch at a time.

The code knows nothing of trainenv. It takes parameters as --name=value, prints a line with its
metrics after each epoch (`epoch=3 loss=0.12` is recorded and drawn), and leaves what it made in
the folder that the variable TRAINENV_OUTPUTS names. To try it without trainenv:
`TRAINENV_OUTPUTS=. python train.py --epochs=5`.
"""

import argparse
import json
import os
import pickle
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    arguments = parse_arguments()
    outputs = Path(os.environ.get("TRAINENV_OUTPUTS", "."))

    features, labels = load_breast_cancer(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        features, labels, test_size=0.25, stratify=labels, random_state=arguments.seed
    )
    scaler = StandardScaler().fit(train_x)
    train_x = scaler.transform(train_x)
    classifier = SGDClassifier(
        loss="log_loss",
        learning_rate="constant",
        eta0=arguments.learning_rate,
        alpha=arguments.alpha,
        random_state=arguments.seed,
    )
    model = make_pipeline(scaler, classifier)
    print(f"training on {len(train_y)} tumours, testing on {len(test_y)} others", flush=True)

    order = np.random.default_rng(arguments.seed)
    for epoch in range(1, arguments.epochs + 1):
        shuffled = order.permutation(len(train_y))
        classifier.partial_fit(train_x[shuffled], train_y[shuffled], classes=[0, 1])
        loss = log_loss(test_y, model.predict_proba(test_x))
        accuracy = accuracy_score(test_y, model.predict(test_x))
        print(f"epoch={epoch} loss={loss:.6f} accuracy={accuracy:.4f}", flush=True)

    save(model, outputs / "model.pkl", test_x)
    result = {"loss": round(loss, 6), "accuracy": round(accuracy, 4), "test_rows": len(test_y)}
    (outputs / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"saved model.pkl and result.json in {outputs}", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--learning_rate", type=float, default=0.01)
    parser.add_argument("--alpha", type=float, default=0.0001)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def save(model: Pipeline, file: Path, test_x: np.ndarray) -> None:
    """Save the model, and make sure that what was saved predicts the same."""
    file.write_bytes(pickle.dumps(model))
    loaded = pickle.loads(file.read_bytes())
    if not np.array_equal(loaded.predict_proba(test_x), model.predict_proba(test_x)):
        raise SystemExit(f"{file} does not predict what the trained model predicts")


if __name__ == "__main__":
    main()
