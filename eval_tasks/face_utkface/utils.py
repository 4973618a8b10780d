"""UTKFace: one of the values of a label; the age as a number."""

from llava_face_plugin.evaluation.scoring import AGE, CHOICE, scorer

choice = scorer(*CHOICE)
years = scorer(*AGE)
