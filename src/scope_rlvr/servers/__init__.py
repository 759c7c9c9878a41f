"""Asking a server that may be slow, busy, broken or gone, without ever waiting for it in vain."""
