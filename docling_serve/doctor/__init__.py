"""``docling-serve doctor``: what this machine has, what a server would make of it, and whether
memory comes back.

``examination`` collects facts, ``judgement`` makes findings of them, ``report`` prints both. What
imports heavy libraries or asks a driver runs in a throw-away child process with a time limit
(``children``, ``probe``): a driver that hangs, or a library that crashes, becomes a finding.
"""
