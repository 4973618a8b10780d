"""FaceXBench: one letter of four, read strictly and as the paper reads it."""

from llava_face_plugin.evaluation.suites.facexbench import METRICS, record
from llava_face_plugin.evaluation.suites.shared import suite_scorer

process_results = suite_scorer(record, METRICS)
