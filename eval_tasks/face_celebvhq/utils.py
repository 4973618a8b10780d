"""CelebV-HQ: 83 yes/no questions a clip."""

from llava_face_plugin.evaluation.scoring import YES_NO, scorer

process_results = scorer(*YES_NO)
