"""Pages that need nothing else: a tree of tags, the common style, the security policy, numbers as a person reads them.

Never: what a page is about, such as curves or plans.
"""
