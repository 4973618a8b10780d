"""MAAD-Face: 47 yes/no questions an image, fewer where labels are undefined."""

from llava_face_plugin.evaluation.scoring import YES_NO, scorer

process_results = scorer(*YES_NO)
