"""Instantiates components with the `wasmtime` package of PyPI, which has the imports of wasi:http, but no way to make a
request: instantiate.py COMPONENT..."""

import sys

from wasmtime import Engine, Store, WasiConfig
from wasmtime.component import Component, Linker

HANDLER = "wasi:http/incoming-handler@0.2."


def instantiate(path):
    """Instantiates the component at `path`. Returns its imports and exports."""
    engine = Engine()
    component = Component.from_file(engine, path)
    imports, exports = (sorted(names(engine)) for names in (component.type.imports, component.type.exports))
    linker = Linker(engine)
    linker.add_wasip2()
    linker.add_wasi_http()
    store = Store(engine)
    store.set_wasi(WasiConfig())
    store.set_wasi_http()
    instance = linker.instantiate(store, component)
    (handler,) = (name for name in exports if name.startswith(HANDLER))
    interface = instance.get_export_index(store, handler)
    handle = instance.get_func(store, instance.get_export_index(store, "handle", interface))
    assert handle is not None, f"{path}: {handler} has no function `handle`"
    return imports, exports


for path in sys.argv[1:]:
    imports, exports = instantiate(path)
    assert all(name.startswith("wasi:") for name in imports), imports
    print(f"PyPI's wasmtime, {path}: instantiated, {len(imports)} imports, {len(exports)} exports")
