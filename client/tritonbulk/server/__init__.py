"""The embedded Triton server: a real ``tritonserver`` in a private environment, started and ended.

``embedded`` is the way in. ``environment`` makes and checks the private environment, ``repository``
makes the private view of a model repository, ``flags`` decides the command line, ``guard`` is the
process that leaves nothing behind, ``backend/`` is the code that runs inside the server.
Only Linux can run it; every module here can be imported anywhere.
"""
