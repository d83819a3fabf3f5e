"""Archives that lie elsewhere: fetched in parts over http, ssh and whatever fsspec knows, and sent there.

``addresses`` says what an address means. A *transport* (``http``, ``ssh``, ``other``) gives any run of the
bytes of one remote file; ``ahead`` makes of it a ``ByteSource`` that fetches ahead, tries again and keeps
(``kept``) what has come; ``pulling`` puts them together.
"""
