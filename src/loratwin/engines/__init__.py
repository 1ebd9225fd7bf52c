"""The serving engines: vLLM, SGLang, and what differs from one to the other and from version to version.

Whoever asks takes an `Engine` (`engine`) of the table (`registry`; a module for each: `vllm`, `sglang`), and nobody
outside this room says a name. `options`, `arguments`: a server's arguments, parsed. `facts`: what a running server says
of itself (`pages`: how it is read). `config`: arguments, facts and defaults make an `EngineConfig`. `start`: commands.
`versions`: generations of vLLM as data, and what `serve` takes by default.
"""
