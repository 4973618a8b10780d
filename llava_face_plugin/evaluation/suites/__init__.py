"""Scoring of published benchmarks: by the paper's own rule, and by a stricter one where that rule misreads answers.

Rules of papers are implemented anew from reading their code, which is named in each file. They end in ``_original``.
"""
