"""Rows that were measured: what is believed between them, which one to choose, tables, pictures and pages of them.

Never: torch modules, plans or twins; a row is numbers and names.
"""
