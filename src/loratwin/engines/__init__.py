"""The serving engines: what differs from one to the other, and from version to version.

`versions`: generations of vLLM as data, and what `serve` takes by default. `serving`: commands, names of options, and
what a server tells of itself as it starts. `told`: how that is read off a page. `config`: from arguments and facts to
an `EngineConfig`. `arguments`: a server's arguments, parsed; `options`: the rows that say how.
"""
