"""Drawn clips: yes/no questions about what is constant and about an event."""

from llava_face_plugin.evaluation.scoring import YES_NO, scorer

process_results = scorer(*YES_NO)
