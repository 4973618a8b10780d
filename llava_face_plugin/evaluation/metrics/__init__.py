"""Metrics of answers about faces, in numpy: functions of gold and answers, and their 95 % intervals.

Scores are in 0..1 unless said. An answer that could not be parsed is wrong everywhere and never left out. None stands
for a score that is undefined on the data (one class only, one cluster only): the caller must say so, no number is made
up. Nothing depends on the order of rows.
"""

from .action_units import ActionUnitF1, action_unit_f1
from .classification import (
    accuracy,
    balanced_accuracy,
    binary_f1,
    confusion,
    hits,
    macro_f1,
    mean_f1,
    mean_recall,
    topic_balanced_accuracy,
    topic_f1,
    topic_mean,
    uar,
    war,
)
from .consistency import RuleConsistency, rule_breaks, rule_consistency
from .groups import GroupScores, group_gap, group_scores, mean_of, worst_group
from .inputs import Statistic
from .intervals import Interval, cluster_bootstrap, confusion_bootstrap
from .paired import Paired, paired_bootstrap
from .regression import absolute_errors, cumulative_score, mae, mae_parsed
from .verification import auc, eer, fold_accuracy

__all__ = [
    "ActionUnitF1",
    "GroupScores",
    "Interval",
    "Paired",
    "RuleConsistency",
    "Statistic",
    "absolute_errors",
    "accuracy",
    "action_unit_f1",
    "auc",
    "balanced_accuracy",
    "binary_f1",
    "cluster_bootstrap",
    "confusion",
    "confusion_bootstrap",
    "cumulative_score",
    "eer",
    "fold_accuracy",
    "group_gap",
    "group_scores",
    "hits",
    "macro_f1",
    "mae",
    "mae_parsed",
    "mean_f1",
    "mean_of",
    "mean_recall",
    "paired_bootstrap",
    "rule_breaks",
    "rule_consistency",
    "topic_balanced_accuracy",
    "topic_f1",
    "topic_mean",
    "uar",
    "war",
    "worst_group",
]
