"""A list turned into machine code: scheduled into loops, emitted as LLVM IR, compiled, called."""
