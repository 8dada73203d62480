"""Jitted programs of the kind people write: (name, function, arguments, numbers of the differentiated arguments).

Each returns one float and is differentiable at its data.
"""

import collections
import math

import numpy as np
from numba import njit

random = np.random.default_rng(7)
PROGRAMS = []


def program(*args, argnums=(0,)):
    """Decorator: jit a function and add it with its data to the corpus."""
    def add(function):
        jitted = njit(function)
        PROGRAMS.append((function.__name__, jitted, args, argnums))
        return jitted

    return add


# ------------------------------------------------------------------ physics


@program(random.normal(size=(6, 3)), random.random(6) + 0.5, argnums=(0, 1))
def nbody_energy(q, m):
    e = 0.0
    for i in range(q.shape[0]):
        for j in range(i):
            dx = q[i, 0] - q[j, 0]
            dy = q[i, 1] - q[j, 1]
            dz = q[i, 2] - q[j, 2]
            e -= m[i] * m[j] / math.sqrt(dx * dx + dy * dy + dz * dz + 0.01)
    return e


@njit
def accelerations(q, m):
    a = np.zeros_like(q)
    for i in range(q.shape[0]):
        for j in range(q.shape[0]):
            if i != j:
                d = q[j] - q[i]
                r2 = np.sum(d * d) + 0.1
                a[i] += m[j] * d / (r2 * np.sqrt(r2))
    return a


@program(random.normal(size=(3, 2)), random.normal(size=(3, 2)), np.array([1.0, 0.5, 0.7]), 5, argnums=(0, 1, 2))
def nbody_leapfrog(q, v, m, steps):
    dt = 0.05
    a = accelerations(q, m)
    for _ in range(steps):
        v = v + 0.5 * dt * a
        q = q + dt * v
        a = accelerations(q, m)
        v = v + 0.5 * dt * a
    return np.sum(q * q) + np.sum(v * v)


@program(0.9, 0.1, 9.81, argnums=(0, 1, 2))
def pendulum(angle, speed, g):
    for _ in range(200):
        speed -= 0.01 * g * math.sin(angle)
        angle += 0.01 * speed
    return angle


@program(np.array([0.5, -0.3, 0.1, 0.2]), 9.81, argnums=(0, 1))
def double_pendulum(state, g):
    s = state.copy()
    for _ in range(50):
        d = s[1] - s[0]
        den = 2.0 - math.cos(d) ** 2
        a0 = (s[2] ** 2 * math.sin(d) * math.cos(d) + g * math.sin(s[1]) * math.cos(d) + s[3] ** 2 * math.sin(d)
              - 2 * g * math.sin(s[0])) / den
        a1 = (-s[3] ** 2 * math.sin(d) * math.cos(d) + 2 * (g * math.sin(s[0]) * math.cos(d) - s[2] ** 2 * math.sin(d)
                                                            - g * math.sin(s[1]))) / den
        s[2] += 0.01 * a0
        s[3] += 0.01 * a1
        s[0] += 0.01 * s[2]
        s[1] += 0.01 * s[3]
    return s[0] * s[1]


@program(random.normal(size=8), np.full(9, 2.0), argnums=(0, 1))
def spring_chain(x, k):
    v = np.zeros(len(x))
    y = x.copy()
    force = np.empty_like(y)
    for _ in range(20):
        for i in range(len(y)):
            left = y[i - 1] if i > 0 else 0.0
            right = y[i + 1] if i < len(y) - 1 else 0.0
            force[i] = k[i] * (left - y[i]) + k[i + 1] * (right - y[i])
        v += 0.05 * force
        y += 0.05 * v
    return (y ** 2).sum() + (v ** 2).sum()


@program(1.0, 0.0, 2.0, 0.1, argnums=(0, 1, 2, 3))
def damped_oscillator(x, v, k, c):
    dt = 0.01
    for _ in range(500):
        a = -k * x - c * v
        if x > 0.5:
            a -= 3.0 * (x - 0.5)
        a += 0.3 * math.sin(x)
        v += dt * a
        x += dt * v
    return x * x + v * v


@program(np.exp(-np.linspace(-3, 3, 20) ** 2), 0.2, argnums=(0, 1))
def heat_loop(u0, r):
    u, new = u0.copy(), u0.copy()
    for _ in range(30):
        for i in range(1, len(u) - 1):
            new[i] = u[i] + r * (u[i - 1] - 2.0 * u[i] + u[i + 1])
        u, new = new, u
    s = 0.0
    for x in u:
        s += x * x
    return s


@program(np.exp(-np.linspace(-3, 3, 20) ** 2), 0.2, argnums=(0, 1))
def heat_slices(u0, r):
    u = u0.copy()
    for _ in range(30):
        u[1:-1] = u[1:-1] + r * (u[2:] - 2 * u[1:-1] + u[:-2])
    return np.sum(u * u)


@program(random.normal(size=(6, 5)), 0.1, argnums=(0, 1))
def heat_plane(u, r):
    for _ in range(5):
        new = u.copy()
        for i in range(1, u.shape[0] - 1):
            for j in range(1, u.shape[1] - 1):
                new[i, j] += r * (u[i + 1, j] + u[i - 1, j] + u[i, j + 1] + u[i, j - 1] - 4 * u[i, j])
        u = new
    return np.sum(u ** 2)


@program(np.sin(np.linspace(0, 3, 16)), np.linspace(0.5, 1.0, 16), argnums=(0, 1))
def wave(u0, speed):
    before, now = u0.copy(), u0.copy()
    for _ in range(20):
        after = np.zeros_like(now)
        for i in range(1, now.size - 1):
            after[i] = 2 * now[i] - before[i] + (0.5 * speed[i]) ** 2 * (now[i + 1] - 2 * now[i] + now[i - 1])
        before, now = now, after
    return np.dot(now, now)


@njit
def lorenz_rates(x, y, z, s, r, b):
    return s * (y - x), x * (r - z) - y, x * y - b * z


@program(1.0, 2.0, 3.0, 10.0, 28.0, 8 / 3, argnums=(0, 1, 2, 3, 4, 5))
def lorenz(x, y, z, s, r, b):
    h = 0.005
    for _ in range(60):
        a1, b1, c1 = lorenz_rates(x, y, z, s, r, b)
        a2, b2, c2 = lorenz_rates(x + 0.5 * h * a1, y + 0.5 * h * b1, z + 0.5 * h * c1, s, r, b)
        a3, b3, c3 = lorenz_rates(x + 0.5 * h * a2, y + 0.5 * h * b2, z + 0.5 * h * c2, s, r, b)
        a4, b4, c4 = lorenz_rates(x + h * a3, y + h * b3, z + h * c3, s, r, b)
        x += h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
        y += h / 6 * (b1 + 2 * b2 + 2 * b3 + b4)
        z += h / 6 * (c1 + 2 * c2 + 2 * c3 + c4)
    return x * x + y * y + z * z


@njit
def prey_and_predators(state, p):
    out = np.empty(2)
    out[0] = p[0] * state[0] - p[1] * state[0] * state[1]
    out[1] = p[2] * state[0] * state[1] - p[3] * state[1]
    return out


@program(np.array([1.0, 0.5]), np.array([1.1, 0.4, 0.1, 0.4]), argnums=(0, 1))
def lotka_volterra(state, p):
    h = 0.1
    total = 0.0
    for _ in range(30):
        k1 = prey_and_predators(state, p)
        k2 = prey_and_predators(state + 0.5 * h * k1, p)
        k3 = prey_and_predators(state + 0.5 * h * k2, p)
        k4 = prey_and_predators(state + h * k3, p)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        total += state[0] * h
    return total


@program(20.0, 0.7, 0.05, argnums=(0, 1, 2))
def projectile(speed, angle, drag):
    x, y = 0.0, 0.0
    vx, vy = speed * math.cos(angle), speed * math.sin(angle)
    dt = 0.01
    while True:
        v = math.hypot(vx, vy)
        ax, ay = -drag * v * vx, -9.81 - drag * v * vy
        new_y = y + dt * vy
        if new_y < 0.0:
            return x + vx * (y / -vy)
        x, y = x + dt * vx, new_y
        vx += dt * ax
        vy += dt * ay


@program(np.array([0.5, 0.1]), 1.3, argnums=(0, 1))
def van_der_pol(state, mu):
    x, v = state
    for _ in range(200):
        x, v = x + 0.01 * v, v + 0.01 * (mu * (1 - x * x) * v - x)
    return x * v


# ------------------------------------------------------------------ statistics


@program(random.normal(size=9))
def logsumexp(x):
    largest = x[0]
    for i in range(1, len(x)):
        if x[i] > largest:
            largest = x[i]
    s = 0.0
    for v in x:
        s += math.exp(v - largest)
    return largest + math.log(s)


@program(random.normal(size=(5, 4)), np.array([0, 3, 1, 2, 2]))
def cross_entropy(logits, labels):
    loss = 0.0
    for i in range(logits.shape[0]):
        row = logits[i]
        shifted = row - np.max(row)
        loss -= shifted[labels[i]] - np.log(np.sum(np.exp(shifted)))
    return loss / logits.shape[0]


@program(random.normal(size=4), random.normal(size=(12, 4)), np.arange(12) % 2.0)
def logistic(w, features, y):
    s = 0.0
    for i in range(features.shape[0]):
        z = 0.0
        for j in range(features.shape[1]):
            z += features[i, j] * w[j]
        s += math.log1p(math.exp(-abs(z))) + max(z, 0.0) - y[i] * z
    return s


@program(random.normal(size=15), np.array([0.3, 0.7]), np.array([-1.0, 1.0]), np.array([0.5, 0.8]), argnums=(0, 1, 2, 3))
def mixture(x, weight, mean, scale):
    total = 0.0
    for i in range(x.size):
        p = 0.0
        for k in range(weight.size):
            p += weight[k] * math.exp(-0.5 * ((x[i] - mean[k]) / scale[k]) ** 2) / scale[k]
        total += math.log(p)
    return total


@program(random.random((3, 3)) + 0.1, random.random((3, 4)) + 0.1, np.array([0, 2, 1, 3, 3, 0]), argnums=(0, 1))
def hidden_markov(transition, emission, seen):
    n = transition.shape[0]
    alpha = np.full(n, 1.0 / n)
    log_likelihood = 0.0
    for t in range(seen.size):
        new = np.zeros(n)
        for j in range(n):
            for i in range(n):
                new[j] += alpha[i] * transition[i, j]
            new[j] *= emission[j, seen[t]]
        total = new.sum()
        log_likelihood += np.log(total)
        alpha = new / total
    return log_likelihood


@program(random.normal(size=20), 0.5, 0.8, argnums=(0, 1, 2))
def kalman(y, q, r):
    mean, variance, log_likelihood = 0.0, 1.0, 0.0
    for t in range(len(y)):
        variance += q
        innovation = y[t] - mean
        s = variance + r
        log_likelihood -= 0.5 * (math.log(s) + innovation * innovation / s)
        gain = variance / s
        mean += gain * innovation
        variance *= 1 - gain
    return log_likelihood


@program(random.normal(size=6), np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.2, 0.0], [0.0, 0.3]]), argnums=(0, 1, 2))
def kalman_plane(y, f, q):
    x = np.zeros((2, 1))
    p = np.eye(2)
    h = np.array([[1.0, 0.5]])
    total = 0.0
    for t in range(y.shape[0]):
        x = f @ x
        p = f @ p @ f.T + q
        s = (h @ p @ h.T)[0, 0] + 0.4
        k = (p @ h.T) / s
        e = y[t] - (h @ x)[0, 0]
        x = x + k * e
        p = p - k @ (h @ p)
        total += e * e / s + np.log(s)
    return total


@program(random.normal(size=3), random.normal(size=(10, 3)), random.normal(size=10), argnums=(0, 1))
def least_squares(w, features, y):
    residual = features @ w - y
    return np.mean(residual ** 2) + 0.1 * np.linalg.norm(w)


@program(random.normal(size=11))
def welford(x):
    mean, m2 = 0.0, 0.0
    for i, v in enumerate(x):
        delta = v - mean
        mean += delta / (i + 1)
        m2 += delta * (v - mean)
    return m2 / (len(x) - 1)


@program(random.normal(size=14), np.array([0.5, -0.2]), 0.7, argnums=(0, 1, 2))
def autoregression(y, phi, sigma):
    total = -0.5 * (y.size - 2) * math.log(2 * math.pi * sigma ** 2)
    for t in range(2, y.size):
        total -= (y[t] - phi[0] * y[t - 1] - phi[1] * y[t - 2]) ** 2 / (2 * sigma ** 2)
    return total


@program(random.normal(size=(4, 5)), random.normal(size=(5, 3)), random.normal(size=5), random.normal(size=(6, 4)),
         argnums=(0, 1, 2))
def perceptron(first, second, bias, x):
    hidden = np.tanh(x @ first + bias)
    out = hidden @ second
    return np.sum(out ** 2) + 0.01 * (np.sum(first ** 2) + np.sum(second ** 2))


# ------------------------------------------------------------------ finance


@njit
def normal_cdf(x):
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


@program(np.array([90.0, 100.0, 110.0]), np.array([0.2, 0.3, 0.25]), np.full(3, 100.0), 1.0, 0.05, argnums=(0, 1, 3, 4))
def black_scholes(spot, volatility, strike, time, rate):
    total = 0.0
    for i in range(spot.shape[0]):
        root = volatility[i] * math.sqrt(time)
        d1 = (math.log(spot[i] / strike[i]) + (rate + 0.5 * volatility[i] ** 2) * time) / root
        total += spot[i] * normal_cdf(d1) - strike[i] * math.exp(-rate * time) * normal_cdf(d1 - root)
    return total


@program(100.0, 98.7, 0.25, 0.03, 12, argnums=(0, 1, 2, 3))
def american_put(spot, strike, volatility, rate, steps):
    dt = 1.0 / steps
    up = math.exp(volatility * math.sqrt(dt))
    p = (math.exp(rate * dt) - 1 / up) / (up - 1 / up)
    value = np.empty(steps + 1)
    for i in range(steps + 1):
        value[i] = max(strike - spot * up ** (2 * i - steps), 0.0)
    for n in range(steps - 1, -1, -1):
        for i in range(n + 1):
            hold = math.exp(-rate * dt) * (p * value[i + 1] + (1 - p) * value[i])
            value[i] = max(hold, strike - spot * up ** (2 * i - n))
    return value[0]


@program(100.0, 0.04, 1.5, 0.05, 0.3, random.normal(size=(8, 10, 2)), argnums=(0, 1, 2, 3, 4))
def heston(spot, v0, kappa, theta, xi, normals):
    paths, steps, _ = normals.shape
    dt, payoff = 1.0 / steps, 0.0
    for i in range(paths):
        s, v = spot, v0
        for t in range(steps):
            vp = max(v, 1e-4)
            s *= math.exp(-0.5 * vp * dt + math.sqrt(vp * dt) * normals[i, t, 0])
            v += kappa * (theta - vp) * dt + xi * math.sqrt(vp * dt) * normals[i, t, 1]
        if s > 95.0:
            payoff += s - 95.0
    return payoff / paths


@program(100.0, 0.2, random.normal(size=(6, 12)), argnums=(0, 1))
def asian_option(spot, volatility, normals):
    total = 0.0
    for path in normals:
        s, mean = spot, 0.0
        for z in path:
            s = s * np.exp(-0.5 * volatility ** 2 / 12 + volatility * z / np.sqrt(12.0))
            mean += s / 12
        total += np.maximum(mean - 97.3, 0.0)
    return total / len(normals)


Curve = collections.namedtuple("Curve", "level slope curvature decay")


@program(Curve(0.03, -0.02, 0.01, 1.5), np.arange(1.0, 11.0), 4.0, argnums=(0, 2))
def bond(curve, times, coupon):
    price = 0.0
    for i in range(times.size):
        x = times[i] / curve.decay
        loading = (1 - math.exp(-x)) / x
        rate = curve.level + curve.slope * loading + curve.curvature * (loading - math.exp(-x))
        price += (coupon + (100.0 if i == times.size - 1 else 0.0)) * math.exp(-rate * times[i])
    return price


# ------------------------------------------------------------------ geometry


@program(np.array([0.3, -0.2, 0.5]), np.array([1.0, 2.0, 3.0]), argnums=(0, 1))
def rodrigues(rotation, point):
    angle = math.sqrt(rotation[0] ** 2 + rotation[1] ** 2 + rotation[2] ** 2)
    if angle < 1e-8:
        turned = point + np.cross(rotation, point)
    else:
        axis = rotation / angle
        turned = (point * math.cos(angle) + np.cross(axis, point) * math.sin(angle)
                  + axis * np.dot(axis, point) * (1 - math.cos(angle)))
    return turned[0] * 1.5 - turned[1] + turned[2] ** 2


@program(np.array([0.5, 0.1, -0.3, 0.8]), np.array([1.0, -1.0, 2.0]), argnums=(0, 1))
def quaternion(q, v):
    w, x, y, z = q / np.sqrt(np.sum(q * q))
    tx, ty, tz = 2 * (y * v[2] - z * v[1]), 2 * (z * v[0] - x * v[2]), 2 * (x * v[1] - y * v[0])
    a = v[0] + w * tx + y * tz - z * ty
    b = v[1] + w * ty + z * tx - x * tz
    c = v[2] + w * tz + x * ty - y * tx
    return a * b + c


@program(random.normal(size=(7, 2)))
def polygon_area(corners):
    area = 0.0
    n = len(corners)
    for i in range(n):
        j = (i + 1) % n
        area += corners[i, 0] * corners[j, 1] - corners[j, 0] * corners[i, 1]
    return area / 2


@program(np.array([0.9, 0.1]), np.array([0.7, 1.3]), argnums=(0, 1))
def haversine(a, b):
    h = np.sin((b[0] - a[0]) / 2) ** 2 + np.cos(a[0]) * np.cos(b[0]) * np.sin((b[1] - a[1]) / 2) ** 2
    return 2 * 6371.0 * np.arcsin(np.sqrt(h))


@program(random.normal(size=(4, 3)), np.array([[0, 1, 2], [1, 2, 3]]))
def surface(corners, triangles):
    area = 0.0
    for a, b, c in triangles:
        normal = np.cross(corners[b] - corners[a], corners[c] - corners[a])
        area += 0.5 * np.linalg.norm(normal)
    return area


# ------------------------------------------------------------------ numerics


@program(2.0, 3.5, argnums=(0, 1))
def newton(a, b):
    x = 1.0
    for _ in range(50):
        step = (x ** 3 + a * x - b) / (3 * x * x + a)
        x -= step
        if abs(step) < 1e-15:
            break
    return x


@program(0.8)
def bisection(a):
    low, high = 0.0, 2.0
    while high - low > 1e-13:
        middle = 0.5 * (low + high)
        if math.cos(middle) - a * middle > 0:
            low = middle
        else:
            high = middle
    x = 0.5 * (low + high)
    for _ in range(2):  # bisection has no derivative; each step of Newton's adds an order
        x -= (math.cos(x) - a * x) / (-math.sin(x) - a)
    return x


@program(random.normal(size=(5, 6)), 1.3, 2.6, argnums=(0, 1, 2))
def bilinear(image, x, y):
    i, j = int(x), int(y)
    fx, fy = x - i, y - j
    top = image[i, j] * (1 - fx) + image[i + 1, j] * fx
    return top * (1 - fy) + (image[i, j + 1] * (1 - fx) + image[i + 1, j + 1] * fx) * fy


@program(np.array([0.5, 1.5, 0.7, 1.1]))
def cumulative_product(x):
    out = np.ones(len(x))
    for i in range(len(x)):
        out[i:] *= x[i]
    return out.sum()


@program(np.tril(random.normal(size=(4, 4))) + 3 * np.eye(4), random.normal(size=4), argnums=(0, 1))
def triangular(lower, b):
    x = b.copy()
    for i in range(len(b)):
        for j in range(i):
            x[i] -= lower[i, j] * x[j]
        x[i] /= lower[i, i]
    return x @ x


@program(random.normal(size=(4, 4)) + 5 * np.eye(4))
def lu_determinant(a):
    u = a.copy()
    n = u.shape[0]
    log_determinant = 0.0
    for k in range(n):
        for i in range(k + 1, n):
            factor = u[i, k] / u[k, k]
            u[i, k:] -= factor * u[k, k:]
        log_determinant += math.log(abs(u[k, k]))
    return log_determinant


@program(np.eye(4) * 3 + 0.2, np.arange(1.0, 5.0), argnums=(0, 1))
def cholesky(a, b):
    n = a.shape[0]
    c = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            s = a[i, j]
            for k in range(j):
                s -= c[i, k] * c[j, k]
            c[i, j] = math.sqrt(s) if i == j else s / c[j, j]
    y = np.zeros(n)
    for i in range(n):
        y[i] = (b[i] - np.dot(c[i, :i], y[:i])) / c[i, i] if i else b[0] / c[0, 0]
    return np.sum(y ** 2) + 2 * np.sum(np.log(np.diag(c)))


@program(np.full(5, -1.0), np.full(6, 3.0), np.full(5, -0.5), random.normal(size=6), argnums=(0, 1, 2, 3))
def thomas(low, main, up, right):
    n = len(main)
    c, d = np.empty(n), np.empty(n)
    c[0], d[0] = up[0] / main[0], right[0] / main[0]
    for i in range(1, n):
        m = main[i] - low[i - 1] * c[i - 1]
        c[i] = up[i] / m if i < n - 1 else 0.0
        d[i] = (right[i] - low[i - 1] * d[i - 1]) / m
    for i in range(n - 2, -1, -1):
        d[i] -= c[i] * d[i + 1]
    return np.sum(d * d)


@program(np.eye(4) * 4 + 0.3, np.arange(1.0, 5.0), argnums=(0, 1))
def conjugate_gradient(a, b):
    x = np.zeros_like(b)
    r = b - a @ x
    p = r.copy()
    for _ in range(2):
        ap = a @ p
        rr = np.dot(r, r)
        alpha = rr / np.dot(p, ap)
        x = x + alpha * p
        r = r - alpha * ap
        p = r + np.dot(r, r) / rr * p
    return np.dot(x, b) + x[0] ** 2


@program(random.normal(size=5), 0.7, argnums=(0, 1))
def horner(coefficients, x):
    y = 0.0
    for c in coefficients[::-1]:
        y = y * x + c
    return y


@njit
def integrand(x, a):
    return np.exp(-a * x * x) * np.cos(x)


@program(0.1, 2.0, 0.8, 20, argnums=(0, 1, 2))
def simpson(low, high, a, n):
    h = (high - low) / n
    total = integrand(low, a) + integrand(high, a)
    for i in range(1, n, 2):
        total += 4 * integrand(low + i * h, a)
    for i in range(2, n, 2):
        total += 2 * integrand(low + i * h, a)
    return total * h / 3


@program(np.diag(np.arange(1.0, 5.0)) + 0.1)
def power_iteration(a):
    v = np.ones(a.shape[0])
    for _ in range(25):
        v = a @ v
        v = v / np.linalg.norm(v)
    return v @ (a @ v)


@program(random.normal(size=12), random.normal(size=3), argnums=(0, 1))
def convolution(signal, kernel):
    out = np.zeros(signal.size - kernel.size + 1)
    for i in range(out.size):
        for j in range(kernel.size):
            out[i] += signal[i + j] * kernel[j]
    return np.sum(np.where(out > 0, out ** 2, 0.1 * out))


@njit
def fraction(x, depth):
    if depth == 0:
        return x
    return x + 1.0 / fraction(x, depth - 1)


@program(1.3, 6)
def continued_fraction(x, depth):
    return fraction(x, depth)


@program(random.normal(size=(3, 3)) * 0.5)
def matrix_exponential(a):
    total, term = np.eye(3), np.eye(3)
    for k in range(1, 10):
        term = term @ a / k
        total = total + term
    return total[0, 1] + total.sum()
