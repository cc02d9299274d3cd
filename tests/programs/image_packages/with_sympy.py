# draws: print(sympy.core.random.random(), sympy.core.random.sample(range(10**6), 2))
# preload: import sympy
import sympy

x, y = sympy.symbols("x y")
print(sympy.integrate(sympy.exp(-(x**2)) * sympy.sin(x), (x, -sympy.oo, sympy.oo)))
print(sympy.solve([x**2 + y - 3, x - y], [x, y]), sympy.factor(x**6 - 1))
print(sympy.series(sympy.tan(x), x, 0, 8), sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2))
print(sympy.lambdify(x, sympy.sqrt(x) + 1)(4), sympy.latex(sympy.Matrix([[x, 1], [y, 2]]).inv()))
