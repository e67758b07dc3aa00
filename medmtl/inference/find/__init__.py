"""What `predict` was given -> items of work."""

from medmtl.inference.find.finder import find_again, find_items, is_web, rule_for
from medmtl.inference.find.rule import ChannelRule, Rule, parse_rule, parse_select
from medmtl.inference.find.select import Choice, choose

__all__ = [
    "ChannelRule",
    "Choice",
    "Rule",
    "choose",
    "find_again",
    "find_items",
    "is_web",
    "parse_rule",
    "parse_select",
    "rule_for",
]
