"""TensorRT: plans are built on the GPU node, in the server's own container, by a kit made here.

``flags`` and ``commands`` are pure; ``kit`` writes a folder that needs nothing but the container;
``build_plan`` is the script in it; ``plans`` publishes what it built. *Not verified on a GPU here.*
"""
