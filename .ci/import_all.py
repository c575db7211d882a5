"""Import every module of the installed wheel while the user has packages named like our folders."""

import importlib
import pkgutil
import sys

import nexus_gateway

import adapters
import core
import nexus_link
import shm

for decoy in (core, shm, adapters, nexus_link):
    assert decoy.IS_THE_USERS_OWN, f"{decoy.__name__} of the user was hidden by {decoy.__file__}"

names = [module.name for module in pkgutil.walk_packages(nexus_gateway.__path__, "nexus_gateway.")]
assert len(names) > 40, f"only {len(names)} modules in the wheel: {names}"
for name in names:
    module = importlib.import_module(name)
    assert "site-packages" in (module.__file__ or ""), f"{name} came from {module.__file__}"
assert not any(name.startswith(("core.", "shm.", "adapters.")) for name in sys.modules)
print(f"{len(names)} modules imported from the wheel")
