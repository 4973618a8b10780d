"""CALFW: the same person or not, asked yes or no, and for a similarity."""

from llava_face_plugin.evaluation.scoring import PAIRS, SIMILARITY, scorer

verification = scorer(*PAIRS)
similarity = scorer(*SIMILARITY)
