"""Simulations and energies of physics as jitted functions: `PROGRAMS` lists (name, function, arguments, argnums)."""

import math
from collections import namedtuple

import numpy as np
from numba import njit

SPRINGS = np.array([1.5, 2.0, 1.2, 0.8, 1.7, 1.1])
G = 9.81

State = namedtuple("State", ["theta", "omega"])
Drag = namedtuple("Drag", ["mass", "coefficient"])


@njit
def nbody_energy(x, v, m):
    n = x.shape[0]
    kinetic = 0.0
    potential = 0.0
    for i in range(n):
        kinetic += 0.5 * m[i] * np.sum(v[i] ** 2)
        for j in range(i + 1, n):
            d = x[i] - x[j]
            potential -= m[i] * m[j] / np.sqrt(np.dot(d, d) + 0.01)
    return kinetic + potential


@njit
def nbody_acceleration(x, m, out):
    n = x.shape[0]
    out[:] = 0.0
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            r2 = 0.05
            for k in range(3):
                r2 += (x[j, k] - x[i, k]) ** 2
            w = m[j] * r2**-1.5
            for k in range(3):
                out[i, k] += w * (x[j, k] - x[i, k])


@njit
def nbody_leapfrog(x0, v0, m, dt, steps):
    x = x0.copy()
    v = v0.copy()
    a = np.zeros_like(x)
    nbody_acceleration(x, m, a)
    for _ in range(steps):
        v += 0.5 * dt * a
        x += dt * v
        nbody_acceleration(x, m, a)
        v += 0.5 * dt * a
    return np.sum(x * x) + 0.3 * x[0, 1] * v[1, 2]


@njit
def pendulum_step(state, length, dt):
    omega = state.omega - dt * G / length * math.sin(state.theta)
    return State(state.theta + dt * omega, omega)


@njit
def pendulum(theta, omega, length, steps):
    """The energy lost by the integrator and the final angle, of a state kept in a named tuple."""
    state = State(theta, omega)
    for _ in range(steps):
        state = pendulum_step(state, length, 0.01)
    height = length * (1 - math.cos(state.theta))
    return 0.5 * (length * state.omega) ** 2 + G * height + state.theta


@njit
def double_pendulum_rhs(t1, t2, w1, w2, m1, m2, l1, l2):
    d = t1 - t2
    den = 2 * m1 + m2 - m2 * math.cos(2 * d)
    a1 = (
        -G * (2 * m1 + m2) * math.sin(t1)
        - m2 * G * math.sin(t1 - 2 * t2)
        - 2 * math.sin(d) * m2 * (w2 * w2 * l2 + w1 * w1 * l1 * math.cos(d))
    ) / (l1 * den)
    a2 = (
        2
        * math.sin(d)
        * (w1 * w1 * l1 * (m1 + m2) + G * (m1 + m2) * math.cos(t1) + w2 * w2 * l2 * m2 * math.cos(d))
        / (l2 * den)
    )
    return w1, w2, a1, a2


@njit
def double_pendulum(y0, masses, lengths, duration, steps):
    dt = duration / steps
    t1, t2, w1, w2 = y0
    m1, m2 = masses
    l1, l2 = lengths
    for _ in range(steps):
        a, b, c, d = double_pendulum_rhs(t1, t2, w1, w2, m1, m2, l1, l2)
        h = 0.5 * dt
        a, b, c, d = double_pendulum_rhs(t1 + h * a, t2 + h * b, w1 + h * c, w2 + h * d, m1, m2, l1, l2)
        t1, t2 = t1 + dt * a, t2 + dt * b
        w1 += dt * c
        w2 += dt * d
    return t1 + 2 * t2 - 0.1 * w1 * w2


@njit
def double_pendulum_array(y0, m1, m2, l1, l2, dt, steps):
    """The state in an array, the initial one indexed."""
    y = y0.copy()
    dy = np.empty(4)
    for _ in range(steps):
        dy[0], dy[1], dy[2], dy[3] = double_pendulum_rhs(y[0], y[1], y[2], y[3], m1, m2, l1, l2)
        y[2:] += dt * dy[2:]
        y[:2] += dt * y[2:]
    return -l1 * np.cos(y[0]) - l2 * np.cos(y[1]) + 0.05 * np.sum(y[2:] ** 2)


@njit
def spring_chain(q0, k, mass, damping, steps, fixed):
    """A chain with the global stiffnesses scaled by `k`, its last end fixed or free."""
    n = len(q0)
    q = q0.copy()
    p = np.zeros(n)
    force = np.empty(n)
    for _ in range(steps):
        for i in range(n):
            left = q[i - 1] if i > 0 else 0.0
            f = -k * SPRINGS[i] * (q[i] - left)
            if i < n - 1:
                f += k * SPRINGS[i + 1] * (q[i + 1] - q[i])
            elif fixed:
                f -= k * q[i]
            force[i] = f - damping * p[i] / mass
        p += 0.02 * force
        q += 0.02 * p / mass
    return (p @ p) / (2 * mass) + q[-1] * q[0]


@njit
def damped_oscillator(m, c, k, x0, v0, t):
    """The exact solution, by the sign of the discriminant."""
    disc = c**2 - 4 * m * k
    if disc > 0:
        root = math.sqrt(disc)
        r1 = (-c + root) / (2 * m)
        r2 = (-c - root) / (2 * m)
        b = (v0 - r1 * x0) / (r2 - r1)
        return (x0 - b) * math.exp(r1 * t) + b * math.exp(r2 * t)
    if disc == 0:
        r = -c / (2 * m)
        return (x0 + (v0 - r * x0) * t) * math.exp(r * t)
    w = math.sqrt(-disc) / (2 * m)
    decay = math.exp(-c * t / (2 * m))
    return decay * (x0 * math.cos(w * t) + (v0 + c * x0 / (2 * m)) / w * math.sin(w * t))


@njit
def heat_loops(u0, alpha, dx, dt, steps):
    n = u0.shape[0]
    u = u0.copy()
    new = np.empty(n)
    for _ in range(steps):
        new[0] = u[0]
        new[n - 1] = u[n - 1]
        for i in range(1, n - 1):
            new[i] = u[i] + alpha * dt / dx**2 * (u[i + 1] - 2 * u[i] + u[i - 1])
        u, new = new, u
    total = 0.0
    for i in range(n):
        total += u[i] ** 2
    return total


@njit
def heat_slices(u0, alpha, dx, dt, steps):
    u = u0.copy()
    for _ in range(steps):
        u[1:-1] += alpha * dt / dx**2 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return np.sum(u**2)


@njit
def heat_2d(u0, source, alpha, steps, insulated):
    u = u0.copy()
    ny, nx = u.shape
    for _ in range(steps):
        lap = np.zeros_like(u)
        for i in range(1, ny - 1):
            for j in range(1, nx - 1):
                lap[i, j] = u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - 4 * u[i, j]
        u += alpha * lap
        u[ny // 2, nx // 2] += source
        if insulated:
            u[0, :] = u[1, :]
            u[-1, :] = u[-2, :]
            u[:, 0] = u[:, 1]
            u[:, -1] = u[:, -2]
    return (u * u).sum() / u.size


@njit
def wave_equation(u0, speed, duration, steps):
    """Three time levels as the rows of a 2-D array, addressed modulo three."""
    n = u0.size
    dx = 1.0 / (n - 1)
    c2 = (speed * duration / steps / dx) ** 2
    u = np.zeros((3, n))
    u[0] = u0
    u[1, 1:-1] = u0[1:-1] + 0.5 * c2 * (u0[2:] - 2.0 * u0[1:-1] + u0[:-2])
    for t in range(2, steps):
        now, last, before = t % 3, (t - 1) % 3, (t - 2) % 3
        for i in range(1, n - 1):
            u[now, i] = 2 * u[last, i] - u[before, i] + c2 * (u[last, i + 1] - 2 * u[last, i] + u[last, i - 1])
    final = u[(steps - 1) % 3]
    return np.linalg.norm(final) + final[n // 3]


@njit
def lorenz_rhs(y, sigma, rho, beta):
    out = np.empty(3)
    out[0] = sigma * (y[1] - y[0])
    out[1] = y[0] * (rho - y[2]) - y[1]
    out[2] = y[0] * y[1] - beta * y[2]
    return out


@njit
def lorenz_rk4(y0, sigma, rho, beta, duration, steps):
    y = y0
    dt = duration / steps
    for _ in range(steps):
        k1 = lorenz_rhs(y, sigma, rho, beta)
        k2 = lorenz_rhs(y + dt / 2 * k1, sigma, rho, beta)
        k3 = lorenz_rhs(y + dt / 2 * k2, sigma, rho, beta)
        k4 = lorenz_rhs(y + dt * k3, sigma, rho, beta)
        y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y[0] + y[1] * y[2]


@njit
def lotka_volterra_rhs(prey, predator, a, b, c, d):
    return a * prey - b * prey * predator, -c * predator + d * prey * predator


@njit
def lotka_volterra(params, prey0, predator0, dt, data, every):
    """The misfit to `data` of a trajectory stored in an array, observed at each `every`-th step."""
    steps = every * data.shape[0]
    a, b, c, d = params[0], params[1], params[2], params[3]
    path = np.zeros((steps, 2))
    x, y = prey0, predator0
    for i in range(steps):
        path[i, 0] = x
        path[i, 1] = y
        p1, q1 = lotka_volterra_rhs(x, y, a, b, c, d)
        p2, q2 = lotka_volterra_rhs(x + 0.5 * dt * p1, y + 0.5 * dt * q1, a, b, c, d)
        p3, q3 = lotka_volterra_rhs(x + 0.5 * dt * p2, y + 0.5 * dt * q2, a, b, c, d)
        p4, q4 = lotka_volterra_rhs(x + dt * p3, y + dt * q3, a, b, c, d)
        x += dt * (p1 + 2 * p2 + 2 * p3 + p4) / 6
        y += dt * (q1 + 2 * q2 + 2 * q3 + q4) / 6
    loss = 0.0
    for i in range(0, steps, every):
        loss += np.sum((path[i] - data[i // every]) ** 2)
    return loss


@njit
def projectile(speed, angle, drag, mass, dt):
    """The range: steps until the next one would be below the ground, then the fraction of it that reaches the ground."""
    x, y = 0.0, 0.0
    vx = speed * math.cos(angle)
    vy = speed * math.sin(angle)
    while True:
        v = math.sqrt(vx**2 + vy**2)
        vx -= dt * drag / mass * v * vx
        vy -= dt * (G + drag / mass * v * vy)
        y_new = y + dt * vy
        if y_new < 0.0:
            break
        x += dt * vx
        y = y_new
    last = y / -vy
    return x + last * vx


@njit
def falling_sphere(body, height, max_steps):
    """The time of a fall with drag, of a body that is a named tuple; an early return when it does not arrive."""
    t = 0.0
    v = 0.0
    dt = 0.02
    for _ in range(max_steps):
        acceleration = G - body.coefficient / body.mass * abs(v) * v
        v += dt * acceleration
        if height - dt * v <= 0:
            return t + height / v
        height -= dt * v
        t += dt
    return -1.0


@njit
def falling_sphere_time(mass, coefficient, height):
    return falling_sphere(Drag(mass=mass, coefficient=coefficient), height, 500)


@njit
def van_der_pol(x, v, mu, dt, steps):
    peak = 0.0
    total = 0.0
    for i in range(steps):
        v += dt * (mu * (1 - x**2) * v - x)
        x += dt * v
        peak = max(peak, abs(x))
        if i % 10 == 0:
            total += x * v
    return peak + 0.1 * total


@njit
def lennard_jones(x, epsilon, sigma, cutoff):
    """The sum of weighted squared forces, in a box without periods, of pairs nearer than `cutoff`."""
    n = x.shape[0]
    force = np.zeros((n, 3))
    energy = 0.0
    for i in range(n - 1):
        for j in range(i + 1, n):
            d = x[i] - x[j]
            r2 = np.sum(d * d)
            if r2 > cutoff * cutoff:
                continue
            s6 = (sigma**2 / r2) ** 3
            energy += 4 * epsilon * (s6**2 - s6)
            f = 24 * epsilon * (2 * s6**2 - s6) / r2
            force[i] += f * d
            force[j] -= f * d
    return energy + 0.01 * np.sum(force[::2] ** 2)


@njit
def lennard_jones_periodic(x, box, epsilon):
    """The energy by the minimum image, the pairs skipped by the integer they are rounded to."""
    n = len(x)
    e = 0.0
    for i in range(n):
        for j in range(i):
            r2 = 0.0
            for k in range(x.shape[1]):
                d = x[i, k] - x[j, k]
                d -= box * round(d / box)
                r2 += d**2
            if r2 < 6.25:
                inv = 1.0 / r2
                e += 4.0 * epsilon * (inv**6 - inv**3)
    return e


@njit
def kepler_equation(m, e, a):
    """The radius and the angle at the mean anomaly `m`, by Newton's method to the last digit."""
    E = m
    for _ in range(50):
        step = (E - e * math.sin(E) - m) / (1 - e * math.cos(E))
        E -= step
        if abs(step) < 1e-14:
            break
    x = a * (math.cos(E) - e)
    y = a * (1 - e * e) ** 0.5 * math.sin(E)
    return math.hypot(x, y) + math.atan2(y, x)


@njit
def ising_mean_field(coupling, field, steps):
    """The magnetisations of a chain of `field.size` sites iterated to self-consistency, and their free energy."""
    m = np.tanh(field)
    for _ in range(steps):
        new = np.zeros_like(m)
        new[1:] += m[:-1]
        new[:-1] += m[1:]
        m = 0.5 * m + 0.5 * np.tanh(coupling * new + field)
    return -coupling * np.dot(m[1:], m[:-1]) - np.dot(field, m) + np.where(m > 0, m, -m).sum()


_rng = np.random.default_rng(11)
_x = _rng.normal(size=(4, 3))
_v = _rng.normal(size=(4, 3)) * 0.3
_m = _rng.uniform(0.5, 1.5, 4)
_grid = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)], dtype=float)
_atoms = 1.2 * _grid + 0.05 * _rng.normal(size=(8, 3))
_bump = np.sin(np.linspace(0, np.pi, 24)) + 0.1 * _rng.normal(size=24)

PROGRAMS = [
    ("nbody_energy", nbody_energy, (_x, _v, _m), (0, 1, 2)),
    ("nbody_leapfrog", nbody_leapfrog, (_x, _v, _m, 0.02, 20), (0, 1, 2, 3)),
    ("pendulum", pendulum, (0.7, -0.2, 1.3, 120), (0, 1, 2)),
    ("double_pendulum", double_pendulum, ((0.9, 0.4, 0.1, -0.3), (1.0, 0.7), (1.1, 0.8), 0.5, 50), (3,)),
    (
        "double_pendulum_array",
        double_pendulum_array,
        (np.array([0.9, 0.4, 0.1, -0.3]), 1.0, 0.7, 1.1, 0.8, 0.01, 60),
        (0, 1, 2, 3, 4),
    ),
    ("spring_chain_free", spring_chain, (_rng.normal(size=6), 1.4, 0.9, 0.2, 40, False), (0, 1, 2, 3)),
    ("spring_chain_fixed", spring_chain, (_rng.normal(size=5), 1.4, 0.9, 0.2, 40, True), (0, 1, 2, 3)),
    ("oscillator_under", damped_oscillator, (1.2, 0.5, 3.0, 1.0, -0.4, 1.7), (0, 1, 2, 3, 4, 5)),
    ("oscillator_over", damped_oscillator, (1.2, 5.0, 3.0, 1.0, -0.4, 1.7), (0, 1, 2, 3, 4, 5)),
    ("heat_loops", heat_loops, (_bump, 0.8, 0.1, 0.004, 31), (0, 1, 2, 3)),
    ("heat_slices", heat_slices, (_bump, 0.8, 0.1, 0.004, 31), (0, 1, 2, 3)),
    ("heat_slices_numbers", heat_slices, (_bump, 0.8, 0.1, 0.004, 31), (1, 2)),
    ("heat_2d", heat_2d, (_rng.normal(size=(6, 7)), 0.3, 0.15, 12, False), (0, 1, 2)),
    ("heat_2d_insulated", heat_2d, (_rng.normal(size=(6, 7)), 0.3, 0.15, 12, True), (0, 1, 2)),
    ("wave_equation", wave_equation, (_bump, 1.1, 0.5, 25), (0, 1, 2)),
    ("lorenz_rk4", lorenz_rk4, (np.array([1.0, 1.2, 20.0]), 10.0, 28.0, 8 / 3, 0.4, 40), (0, 1, 2, 3, 4)),
    (
        "lotka_volterra",
        lotka_volterra,
        (np.array([1.1, 0.4, 0.9, 0.3]), 2.0, 1.0, 0.05, _rng.uniform(0.5, 3.0, (6, 2)), 5),
        (0, 1, 2, 4),
    ),
    (
        "lotka_volterra_float32",
        lotka_volterra,
        (np.array([1.1, 0.4, 0.9, 0.3]), 2.0, 1.0, 0.05, _rng.uniform(0.5, 3.0, (6, 2)).astype(np.float32), 5),
        (0, 1, 2),
    ),
    ("projectile", projectile, (22.0, 0.8, 0.2, 13.0, 0.02), (0, 1, 2, 3)),
    ("falling_sphere", falling_sphere_time, (1.1, 0.3, 7.0), (0, 1, 2)),
    ("van_der_pol", van_der_pol, (1.0, 0.3, 1.5, 0.02, 300), (0, 1, 2)),
    ("lennard_jones", lennard_jones, (_atoms, 0.9, 1.05, 1.9), (0, 1, 2)),
    ("lennard_jones_periodic", lennard_jones_periodic, (_atoms, 4.3, 0.9), (0, 1, 2)),
    ("kepler_equation", kepler_equation, (1.1, 0.35, 2.0), (0, 1, 2)),
    ("ising_mean_field", ising_mean_field, (0.4, _rng.normal(size=9), 15), (0, 1)),
]
