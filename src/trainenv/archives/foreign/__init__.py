"""Reads what other programs pack: the archives of conda-pack and of pixi-pack.

What an archive is tells its content, never its name (``recognise``). All of them are unpacked by the same careful
hand: ``members`` (what may be in them), ``tars`` and ``zips`` and ``images`` (how each kind of file is read),
``extraction`` (how it is written). Then ``conda_pack`` moves a prefix to its new place, and ``pixi_pack`` builds
one from the packages inside. ``summary`` is for ``inspect``.
"""
