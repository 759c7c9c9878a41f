"""Parts: single functions of a method, which can be added to any other one."""
