"""The Tinker API as an engine: the loop runs here, the model lives on a server.

Hosted Tinker, SkyRL's server and verl's speak it. The step is :mod:`scope_rlvr.methods.step`; a server samples, reads
log-probabilities, adds up gradients and steps its optimiser. The losses stay ours: see :mod:`.learner`.
"""
