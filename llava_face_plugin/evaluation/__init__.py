"""Scores of closed questions about faces."""

from .closed import Answer, read_answers, rule_breaking_share, score

__all__ = ["Answer", "read_answers", "rule_breaking_share", "score"]
