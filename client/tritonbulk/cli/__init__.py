"""The command line: each command parses its arguments into options and makes one library call."""
