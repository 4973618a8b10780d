"""AffectNet-7: one of the expressions."""

from llava_face_plugin.evaluation.scoring import CHOICE, scorer

process_results = scorer(*CHOICE)
