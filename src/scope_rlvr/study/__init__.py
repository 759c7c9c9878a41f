"""A study: methods by seeds, and by the values of one swept option, from one file to one table with intervals."""
