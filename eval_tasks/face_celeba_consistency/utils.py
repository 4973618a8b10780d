"""CelebA: yes/no questions about the attributes of rules, scored image by image."""

from llava_face_plugin.evaluation.consistency_scoring import scorer

process_results = scorer("face_celeba_consistency")
