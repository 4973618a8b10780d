"""AgeDB: the age as a number."""

from llava_face_plugin.evaluation.scoring import AGE, scorer

process_results = scorer(*AGE)
