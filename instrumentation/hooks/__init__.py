"""AutoGen → Activity. One file for each surface of AutoGen; none of them changes a class of AutoGen's, that is
`activation.py`'s alone. A hook may look at names, types and numbers; what it cannot put into an Activity stays where
it is."""
