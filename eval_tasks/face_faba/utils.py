"""FABA-Bench: what is scored, of emotions and of action units."""

from llava_face_plugin.evaluation.suites import faba
from llava_face_plugin.evaluation.suites.shared import suite_scorer

emotion = faba.emotion_scorer("face_faba_emotion")
units = suite_scorer(faba.unit_record, faba.ACTION_UNITS)
