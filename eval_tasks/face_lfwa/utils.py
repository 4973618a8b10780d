"""LFWA: 40 yes/no questions an image."""

from llava_face_plugin.evaluation.scoring import YES_NO, scorer

process_results = scorer(*YES_NO)
