"""Report metrics from training code: ``from trainenv_report import report``.

In a task that trainenv started this module can be imported in every environment, without an install. It
needs nothing but Python 3.6 or newer, and a copy of this file works anywhere else as well: a report is
one line on standard output, which trainenv reads from the task's log.
"""

import json
import os
import sys

__all__ = ["report"]

_MARKER = "[log_data]:"


def report(metrics: "dict[str, object] | None" = None, **more: object) -> None:
    """Report what was measured: ``report(step=3, loss=0.12)`` or ``report({"val/loss": 0.12}, epoch=1)``.

    ``step`` and ``epoch`` say where the training is. Values are numbers, also those of NumPy, PyTorch and
    the like with one element; texts and None are kept in the log but are no metrics. Of processes that
    train together (``torchrun`` and others set ``RANK``) only the first one reports. Raises
    ``TypeError`` for any other value.
    """
    values = {**(metrics or {}), **more}
    line = json.dumps({str(name): _plain(name, value) for name, value in values.items()})
    if os.environ.get("RANK", "0") not in ("", "0"):
        return
    # In one piece, so that lines which other processes write at the same time do not mix with it.
    sys.stdout.write(f"{_MARKER} {line}\n")
    sys.stdout.flush()


def _plain(name: str, value: object) -> object:
    """``value`` as JSON has it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    try:
        plain = value.item()  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError, RuntimeError):
        plain = None
    if not isinstance(plain, (bool, int, float)):
        raise TypeError(f"{name}: {value!r} is not a number")
    return plain
