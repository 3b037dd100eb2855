"""How each of the 22 local findings looks on a phantom, by the part of the chest that it is a finding of."""
