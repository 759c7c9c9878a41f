"""The command ``scope``: one thin file a sub-command."""
