"""The page: a static site of what was built, failed, was refused and was never tried, made from proofs and history.

(:mod:`crosswheel.publishing.report` writes ``docs/status.md``, which is another page, from the kept proofs alone.)

``wheels`` reads the proofs beside the wheels, ``cells`` joins them with the history, ``install`` writes the lines for
pip, ``answers`` says what there is for a board and a Python, ``grid`` and ``trends`` lay out the table and the curves,
``render`` fills the templates, ``writing`` puts the files in place.
"""
