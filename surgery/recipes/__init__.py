"""Whole ways through the library, made of public names alone: what a user would write, in one call.

Never: anything of the library that is not public.
"""
