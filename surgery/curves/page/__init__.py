"""A curve as one page that a person can explore: no other file, nothing from the network.

Never: Curve, which has `report` as a method; a page is made of rows.
"""
