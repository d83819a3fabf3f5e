"""Stage train: a linear model, round by round, on scikit-learn's own measurements of 178 wines."""

import argparse
import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--learning_rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    wines, kinds = load_wine(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        wines, kinds, test_size=0.25, stratify=kinds, random_state=options.seed
    )
    scaler = StandardScaler().fit(train_x)
    train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)
    model = SGDClassifier(
        loss="log_loss", learning_rate="constant", eta0=options.learning_rate, alpha=0.01, random_state=options.seed
    )
    for number in range(1, options.rounds + 1):
        model.partial_fit(train_x, train_y, classes=[0, 1, 2])
        loss = log_loss(test_y, model.predict_proba(test_x))
        accuracy = accuracy_score(test_y, model.predict(test_x))
        print(f"epoch={number} loss={loss:.6f} accuracy={accuracy:.4f}", flush=True)

    # Numbers in a plain file: the next stage needs no scikit-learn to read them.
    file = Path(os.environ.get("TRAINENV_OUTPUTS", "."), "model.npz")
    names = np.array(load_wine().target_names)
    np.savez(file, mean=scaler.mean_, scale=scaler.scale_, weights=model.coef_, offsets=model.intercept_, names=names)
    print(f"saved {file}", flush=True)


if __name__ == "__main__":
    main()
