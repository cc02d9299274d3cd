# preload: import sympy
import sympy

x = sympy.Symbol("x")
print(sympy.integrate(sympy.sin(x) ** 2, x))
