"""Puts together ``bin/conda-unpack``: one file that is a shell script and a Python program at once.

Its parts are ``conda_unpack_head.sh`` (finds the environment and its Python), the texts of
``relocation/spelling.py`` and ``relocation/rewrite.py``, and ``conda_unpack_main.py``.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from importlib import resources

_FIRST = "from __future__ import annotations\n"

_UNTIL_MAIN = """import signal
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
"""
"""An interrupt while modules are imported ends it at once, without a traceback; ``main`` takes that back."""


@lru_cache(maxsize=1)
def program() -> bytes:
    """The text of ``bin/conda-unpack``, the same for every archive of this trainenv."""
    head = resources.files("trainenv.archives").joinpath("conda_unpack_head.sh").read_text()
    main = resources.files("trainenv.archives").joinpath("conda_unpack_main.py").read_text()
    return (head + _FIRST + _UNTIL_MAIN + kernel().removeprefix(_FIRST) + _embedded(main) + "# The end.\n").encode()


def kernel() -> str:
    """The part of relocation that rewrites, as one text that needs no import from trainenv."""
    relocation = resources.files("trainenv.relocation")
    parts = [_embedded(relocation.joinpath(name).read_text()) for name in ("spelling.py", "rewrite.py")]
    return _FIRST + "".join(parts)


def _embedded(source: str) -> str:
    """``source`` without its docstring and the imports that the joined file has or must not have."""
    lines = source.splitlines(keepends=True)
    for position, statement in enumerate(ast.parse(source).body):
        is_docstring = position == 0 and isinstance(statement, ast.Expr)
        is_dropped = isinstance(statement, ast.ImportFrom) and (
            statement.module == "__future__" or (statement.module or "").startswith("trainenv")
        )
        if is_docstring or is_dropped:
            end = statement.end_lineno or statement.lineno
            for number in range(statement.lineno - 1, end):
                lines[number] = ""
    return "".join(lines)
