"""Whether a kill in the middle of a rotation costs a login, and never in silence.

``python -m benchmarks.rotation_kills`` rotates refresh tokens against an IdP that ends a login whose spent token comes
back, and kills the process that does it (SIGKILL) at every step in turn. Each kill is followed by a start on what is
left: that has to come by a token, or to say that a login is needed, and the latter only where no order of steps could
have helped: the IdP has spent the old token and gives no grace, and the new one was not on disk yet. Everything else
ends in exit code 1.

A kill takes the process and leaves the kernel: that what was synced outlives a power cut is the file system's word.

============  =======================================================================================================
steps         where a rotation can be cut, and what may come of it
child         the process that is killed: the real broker, with wrappers around the steps
trial         the IdP, one life of a child after another, and the verdict on each
page          the figures as text
============  =======================================================================================================
"""
