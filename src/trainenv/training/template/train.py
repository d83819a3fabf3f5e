"""Fits a line to noisy points by gradient descent, with nothing but Python's standard library.

A place to begin: keep the three parts (parameters in, metrics out, results into TRAINENV_OUTPUTS) and put your own
training between them.
"""

import argparse
import json
import os
import random


def main() -> None:
    # Each parameter of method.yaml arrives as --name=value.
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning_rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    numbers = random.Random(options.seed)
    xs = [numbers.uniform(-1, 1) for _ in range(200)]
    points = [(x, 3 * x + 1 + numbers.gauss(0, 0.1)) for x in xs]
    slope, offset = 0.0, 0.0
    for epoch in range(1, options.epochs + 1):
        errors = [(x, slope * x + offset - y) for x, y in points]
        slope -= options.learning_rate * 2 * sum(error * x for x, error in errors) / len(points)
        offset -= options.learning_rate * 2 * sum(error for _, error in errors) / len(points)
        loss = sum(error * error for _, error in errors) / len(points)
        # A line of key=value pairs is read as metrics.
        print(f"epoch={epoch} loss={loss:.6f}", flush=True)

    # What is to be kept goes into this folder.
    outputs = os.environ.get("TRAINENV_OUTPUTS", ".")
    with open(os.path.join(outputs, "model.json"), "w") as file:
        json.dump({"slope": slope, "offset": offset}, file)


if __name__ == "__main__":
    main()
