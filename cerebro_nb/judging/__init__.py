"""Judgements, comparisons of prompts and the search for a better one."""
