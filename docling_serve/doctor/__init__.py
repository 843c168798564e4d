"""``docling-serve doctor``: what this machine has, how a server would use it, and whether memory is
freed.

``examination`` collects facts, ``judgement`` derives findings from them, ``report`` prints both.
Anything that imports heavy libraries or queries a driver runs in a throw-away child process with a
time limit (``children``, ``probe``): a driver that hangs, or a library that crashes, becomes a
finding.
"""
