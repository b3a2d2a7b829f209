"""Verifiable instructions: everyday prompts with constraints that a program checks.

The truth is known exactly (a checker says whether an answer satisfies each constraint), so the world serves as a
first data set, as a test of generalisation (other topics, wordings and mixes of constraints are held out) and as a
reward that cannot be argued with.

``load``: the embedded prompts and preference pairs. ``prompts``: how prompts are composed. ``scoring``: ``score`` one
answer, ``pass_rate`` of many. ``pairs``: preference pairs from sampled answers. ``checkers``: the constraints.
"""
