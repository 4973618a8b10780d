"""The parts of ``scripts/train_parser.py``: pairs, augmentation, loss, scores, training loop, report."""
