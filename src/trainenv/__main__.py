"""``python -m trainenv`` is the ``trainenv`` program."""

from trainenv.cli import main

main()
