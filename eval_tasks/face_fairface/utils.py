"""FairFace: one of the values of a label."""

from llava_face_plugin.evaluation.scoring import CHOICE, scorer

process_results = scorer(*CHOICE)
