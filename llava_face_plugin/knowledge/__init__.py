"""Facial knowledge: co-occurrence (correlation module), rules (logical module), losses and file."""

from .cooccurrence import Cooccurrence, count, merge
from .file import Knowledge
from .graph import CorrelationModule, correlation_matrix, edges, reweight
from .loss import bce_per_sample, knowledge_losses
from .rules import LogicalModule, Rule, check_rules, load_rules, violations, weigh

__all__ = [
    "Cooccurrence",
    "CorrelationModule",
    "Knowledge",
    "LogicalModule",
    "Rule",
    "bce_per_sample",
    "check_rules",
    "correlation_matrix",
    "count",
    "edges",
    "knowledge_losses",
    "load_rules",
    "merge",
    "reweight",
    "violations",
    "weigh",
]
