"""Variational autoencoders in Pyro, with estimators that are measured and answers that are exact.

The public names, which ``__init__.pyi`` lists, are loaded when they are first used, so that
importing the package, or asking the command line for help, does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
