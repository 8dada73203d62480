"""Special functions of SciPy's own kernels, called from machine code.

What is here: the functions by name, their values for plain floats, and calls of the C functions that
`scipy.special.cython_special` exports. What is not: the rows that name them (`instructions.py`), and the functions that are
the project's own (`error_function.py`, `zeta.py`).

Machine code knows the address of a slot by its symbol, and the slot holds the address of the function. So code that is
cached on disk is valid in a process that puts the functions elsewhere; and a process that calls none of them does not
import SciPy's special functions, as a slot first holds a stub that puts the function there when it is first called.
"""

from __future__ import annotations

import ctypes
import functools

from llvmlite import binding, ir

FUNCTIONS = {
    "beta": 2, "betainc": 3, "betaln": 2, "erfcinv": 1, "erfcx": 1, "erfinv": 1, "exprel": 1, "gamma": 1, "gammainc": 2,
    "gammaincc": 2, "gammaln": 1, "gammasgn": 1, "i0": 1, "i0e": 1, "i1": 1, "i1e": 1, "iv": 2, "ive": 2, "j0": 1, "j1": 1,
    "jv": 2, "k0": 1, "k1": 1, "kl_div": 2, "kv": 2, "log_ndtr": 1, "ndtri": 1, "psi": 1, "rel_entr": 2, "rgamma": 1,
    "y0": 1, "y1": 1, "yv": 2,
}
"""Number of operands of each function, which has the same name in `scipy.special`."""

IN_C = {"gamma": "tgamma", "gammaln": "lgamma"}
"""Functions that C's library has too, for code that runs where there is no SciPy."""

F64, I32 = ir.DoubleType(), ir.IntType(32)


def value(name: str):
    """The function of NumPy float scalars: computed in double precision, returned in that of the operands."""
    return lambda *operands: type(operands[0])(_ufunc(name)(*(float(x) for x in operands)))


@functools.cache
def _ufunc(name):
    from scipy.special import _ufuncs  # takes a tenth of a second, so not before it is needed

    return getattr(_ufuncs, name)


def call(builder, name: str, values):
    """Emit the call of a function of doubles."""
    slot = _slot(builder.module, name)
    return builder.call(builder.load(slot), [*values, ir.Constant(I32, 0)])


def symbol(name: str) -> str:
    """The symbol of a function's slot."""
    return f"tape_special_{name}"


def _signature(name):
    # Cython adds a flag, which says to call the C function even where a Python class has another.
    return ir.FunctionType(F64, [F64] * FUNCTIONS[name] + [I32])


def _slot(module, name):
    name, kind = symbol(name), _signature(name).as_pointer()
    return module.globals.get(name) or ir.GlobalVariable(module, kind, name)


def link_to_c(module) -> list[str]:
    """Fill the slots of a module that is to run without SciPy with functions of C's library.

    Returns
    -------
    list of str
        The functions that C's library does not have.
    """
    used = [name for name in FUNCTIONS if symbol(name) in module.globals]
    for name in set(used) & set(IN_C):
        kind = _signature(name)
        adapter = ir.Function(module, kind, f"{symbol(name)}_in_c")
        adapter.linkage = "internal"
        builder = ir.IRBuilder(adapter.append_basic_block())
        function = ir.Function(module, ir.FunctionType(F64, [F64] * FUNCTIONS[name]), IN_C[name])
        builder.ret(builder.call(function, adapter.args[:-1]))
        slot = module.globals[symbol(name)]
        slot.linkage, slot.global_constant, slot.initializer = "internal", True, adapter
    return [name for name in used if name not in IN_C]


# ---------------------------------------------------------------------- slots of this process


class _Slot:
    """Memory that holds a function's address; at first that of a stub, which the object keeps alive."""

    def __init__(self, name):
        self.name, self.arity = name, FUNCTIONS[name]
        self.stub = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_double] * self.arity, ctypes.c_int)(self._first_call)
        self.address = ctypes.c_void_p(ctypes.cast(self.stub, ctypes.c_void_p).value)
        binding.add_symbol(symbol(name), ctypes.addressof(self.address))

    def _first_call(self, *operands_and_flag):
        found = _exported(self.name, self.arity)
        if found is not None:  # else the stub serves for all calls
            self.address.value = found
        return float(_ufunc(self.name)(*operands_and_flag[:-1]))


def _exported(name, arity) -> int | None:
    """Address of the function of doubles that `cython_special` exports; None if there is none."""
    from scipy.special import cython_special

    api, wanted = cython_special.__pyx_capi__, f"double ({'double, ' * arity}int __pyx_skip_dispatch)".encode()
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    for candidate in (name, *(f"__pyx_fuse_{k}{name}" for k in range(4))):  # one for each of several types
        if candidate in api and name_of(api[candidate]) == wanted:
            return pointer_of(api[candidate], wanted)
    return None


SLOTS = {name: _Slot(name) for name in FUNCTIONS}
