"""Stage save: folds scaling and weights into one table, in a JSON file that any language reads."""

import argparse
import json
import os
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--digits", type=int, default=4)
    options = parser.parse_args()

    trained = np.load(options.model)
    weights = trained["weights"] / trained["scale"]
    offsets = trained["offsets"] - weights @ trained["mean"]

    def rounded(values: np.ndarray) -> list:
        return json.loads(
            json.dumps(values.tolist()), parse_float=lambda text: float(f"{float(text):.{options.digits}g}")
        )

    table = {"names": trained["names"].tolist(), "weights": rounded(weights), "offsets": rounded(offsets)}
    file = Path(os.environ.get("TRAINENV_OUTPUTS", "."), "model.json")
    file.write_text(json.dumps(table))
    print(json.dumps({"bytes": file.stat().st_size}), flush=True)


if __name__ == "__main__":
    main()
