"""Job: one scoring run and its resumption. A part that exists is a part that is done.

What stands in the output is described in ``docs/job-format.md``. `spec`, `statement`, `manifest`
and `protocol` are pure: what a job is, what its objects hold, and what to do about what is found in
a store. `stores` put, read and list bytes. `commit` brings the two together.
"""
