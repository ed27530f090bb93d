"""The service: galleries behind HTTP, and a page for people who search.

This room alone imports FastAPI and what comes with it (extra ``serve``).
"""
