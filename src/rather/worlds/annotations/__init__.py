"""Messages to a shop with gold annotations: structured answers whose right and wrong versions differ in a few tokens.

The truth is known (a message is composed of annotated passages), so answers are scored exactly.

``messages``: how messages are composed. ``phrases``: what they are made of. ``metric``: micro precision, recall and F1.
``comparisons``: preference pairs with hard negatives, and held-out messages with a check.
"""
